// The types of Rust: scalars, text, slices, collections, enums with data, smart pointers, trait objects.
include!("victim.rs");

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hint::black_box;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug)]
struct Point {
    x: i32,
    y: f64,
}

#[derive(Clone, Debug)]
struct Unit;

#[derive(Clone, Debug)]
struct Wrapper(u64, char);

#[derive(Clone, Copy, Debug)]
enum Plain {
    Red,
    Green = 7,
}

#[derive(Clone, Debug)]
enum Shape {
    Nothing,
    Circle(f64),
    Rectangle { width: u32, height: u32 },
    Named(String, Point),
}

trait Speak {
    fn speak(&self) -> usize;
}

impl Speak for Point {
    fn speak(&self) -> usize {
        self.x as usize
    }
}

static GREETING: &str = "static text";
static COUNTER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(5);

#[inline(never)]
fn scalars(a: i8, b: u8, c: i16, d: u16, e: i32, f: u32, g: i64, h: u64, i: i128, j: u128) -> usize {
    let (k, l): (isize, usize) = (-1, 1);
    let (m, n) = (1.5_f32, -2.5_f64);
    let (o, p) = (true, 'ß');
    let unit = ();
    let tuple = (1_u8, "two", 3.0_f32);
    let array = [1_u16, 2, 3];
    let grid = [[1_u8, 2], [3, 4]];
    let function: fn(i32) -> i32 = i32::abs;
    let never: Option<std::num::NonZeroU32> = std::num::NonZeroU32::new(9);
    black_box((&a, &b, &c, &d, &e, &f, &g, &h, &i, &j));
    black_box((&k, &l, &m, &n, &o, &p, &unit, &tuple, &array, &grid, &function, &never));
    reached();
    std::process::abort();
}

#[inline(never)]
fn text(slice: &str, owned: String, bytes: &[u8]) -> usize {
    let empty = String::new();
    let boxed: Box<str> = "boxed".into();
    let vec = vec![10_i32, 20, 30];
    let vec_none: Vec<String> = Vec::new();
    let nested = vec![vec![1_u8], vec![], vec![2, 3]];
    let part: &[i32] = &vec[1..];
    let strings = vec!["a".to_string(), "b".to_string()];
    let queue: VecDeque<u32> = (1..5).collect();
    black_box((&slice, &owned, &bytes, &empty, &boxed, &vec, &vec_none, &nested, &part, &strings, &queue));
    scalars(-1, 2, -3, 4, -5, 6, -7, 8, -9, 10) + slice.len() + owned.len()
}

#[inline(never)]
fn choices(shape: &Shape, point: Point) -> usize {
    let some = Some(5_u32);
    let none: Option<u32> = None;
    let some_box = Some(Box::new(6_u32));
    let none_box: Option<Box<u32>> = None;
    let some_text = Some(String::from("inside"));
    let none_text: Option<String> = None;
    let some_ref = Some(&point);
    let ok: Result<u8, String> = Ok(1);
    let err: Result<u8, String> = Err("broken".into());
    let shapes = [Shape::Nothing, Shape::Circle(2.0), Shape::Rectangle { width: 3, height: 4 }];
    let named = Shape::Named("n".into(), point.clone());
    let (plain, other) = (Plain::Green, Plain::Red);
    let (unit, wrapper) = (Unit, Wrapper(8, 'w'));
    black_box((&some, &none, &some_box, &none_box, &some_text, &none_text, &some_ref, &ok, &err));
    black_box((&shape, &shapes, &named, &plain, &other, &unit, &wrapper));
    text("borrowed", String::from("owned"), b"bytes") + point.x as usize
}

#[inline(never)]
fn pointers(seed: u64) -> usize {
    let boxed = Box::new(Point { x: 1, y: 2.0 });
    let rc = Rc::new(RefCell::new(vec![1_u8, 2]));
    let second = Rc::clone(&rc);
    let weak: Weak<RefCell<Vec<u8>>> = Rc::downgrade(&rc);
    let arc = Arc::new(Mutex::new(String::from("guarded")));
    let cell = Cell::new(3_i32);
    let dynamic: Box<dyn Speak> = Box::new(Point { x: 4, y: 0.0 });
    let raw: *const Point = &*boxed;
    let hash: HashMap<String, u32> = [("one".to_string(), 1)].into_iter().collect();
    let set: HashSet<u16> = [3_u16].into_iter().collect();
    let tree: BTreeMap<u32, &str> = (0..20).map(|n| (n, if n % 2 == 0 { "even" } else { "odd" })).collect();
    let closure = move |n: u64| n + seed;
    black_box((&boxed, &rc, &second, &weak, &arc, &cell, &dynamic, &raw, &hash, &set, &tree, &closure));
    choices(&Shape::Circle(1.0), Point { x: closure(1) as i32, y: 0.5 }) + dynamic.speak()
}

fn main() {
    black_box((GREETING, &COUNTER));
    println!("{}", pointers(black_box(40)));
}
