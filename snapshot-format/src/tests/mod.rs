//! Tests of the container as a whole.

mod arbitrary;
mod damage;
mod round_trip;
mod samples;
