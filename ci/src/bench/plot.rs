//! A plot with both axes logarithmic, as SVG.

use std::fmt::Write as _;

/// One tool's figures.
pub struct Line<'n> {
    pub name: &'n str,
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;
/// Told apart also by people who do not see all colours: Okabe and Ito's.
const COLOURS: [&str; 5] = ["#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73"];

/// The powers of ten around all values.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = values
        .filter(|v| v.is_finite() && *v > 0.0)
        .map(f64::log10)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    if least > most { (0.0, 1.0) } else { (least.floor(), most.ceil().max(least.floor() + 1.0)) }
}

/// The plot. Figures of 0 and less have no place on it and are left out.
pub fn svg(x_name: &str, y_name: &str, lines: &[Line<'_>]) -> String {
    let all = || lines.iter().flat_map(|l| &l.points);
    let ((x0, x1), (y0, y1)) = (decades(all().map(|p| p.0)), decades(all().map(|p| p.1)));
    let x = |v: f64| LEFT + (v.log10() - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| HEIGHT - BOTTOM - (v.log10() - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
    let mut s = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut decade = x0;
    while decade <= x1 {
        let (at, value) = (x(10_f64.powf(decade)), 10_f64.powf(decade));
        let _ = writeln!(s, "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>");
        let _ = writeln!(s, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>", bottom + 18.0);
        decade += 1.0;
    }
    let mut decade = y0;
    while decade <= y1 {
        let (at, value) = (y(10_f64.powf(decade)), 10_f64.powf(decade));
        let _ = writeln!(s, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>");
        let _ = writeln!(s, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>", LEFT - 6.0, at + 4.0);
        decade += 1.0;
    }
    let _ = writeln!(
        s,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_name}</text>\n\
         <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">{y_name}</text>",
        f64::midpoint(LEFT, right),
        HEIGHT - 12.0,
        f64::midpoint(TOP, bottom)
    );
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<(f64, f64)> =
            line.points.iter().filter(|p| p.0 > 0.0 && p.1 > 0.0).map(|p| (x(p.0), y(p.1))).collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            s,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (x, y) in &points {
            let _ = writeln!(s, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        if let Some((x, y)) = points.last() {
            let _ =
                writeln!(s, "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>", x + 8.0, y + 4.0, line.name);
        }
    }
    s.push_str("</svg>\n");
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_inside_and_larger_is_higher() {
        let line = Line { name: "tool", points: vec![(1.0, 0.02), (1000.0, 4.0), (10.0, 0.0)] };
        let text = svg("threads", "seconds", &[line]);
        let places: Vec<(f64, f64)> = text
            .lines()
            .filter(|l| l.starts_with("<circle"))
            .map(|l| {
                let part: Vec<&str> = l.split('"').collect();
                (part[1].parse().unwrap(), part[3].parse().unwrap())
            })
            .collect();
        let [(x0, y0), (x1, y1)] = places[..] else { panic!("the zero is left out: {places:?}") };
        assert!(LEFT <= x0 && x0 < x1 && x1 <= WIDTH - RIGHT && TOP <= y1 && y1 < y0 && y0 <= HEIGHT - BOTTOM);
        assert_eq!(decades(std::iter::empty()), (0.0, 1.0));
    }
}
