//! The repository tests itself.

mod edges;
mod sources;

use crate::steps::root;

/// Runs all rules and lists every violation.
pub fn run() -> Result<(), String> {
    let mut violations = Vec::new();
    edges::check(&root(), &mut violations);
    sources::check(&root(), &mut violations);
    for v in &violations {
        eprintln!("tidy: {v}");
    }
    if violations.is_empty() {
        println!("tidy: no violations");
        Ok(())
    } else {
        Err(format!("{} violations of the repository's rules", violations.len()))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        super::run().unwrap();
    }
}
