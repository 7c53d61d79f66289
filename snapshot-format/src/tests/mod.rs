//! Tests of the container as a whole.

mod arbitrary;
mod columns;
mod damage;
mod golden;
mod hostile;
mod round_trip;
mod samples;
mod sizes;
mod specification;
