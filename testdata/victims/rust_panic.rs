// unwrap() of an error: a panic with a message, built with panic=abort so that it ends in SIGABRT.
include!("victim.rs");

#[derive(Debug)]
struct Config {
    name: String,
    retries: u32,
}

#[inline(never)]
fn parse_retries(text: &str) -> Result<u32, std::num::ParseIntError> {
    text.parse()
}

#[inline(never)]
fn load(name: &str, text: &str) -> Config {
    reached();
    let retries = parse_retries(text).unwrap();
    Config { name: name.to_string(), retries }
}

fn main() {
    let config = load("primary", "many");
    println!("{} {}", config.name, config.retries);
}
