//! Entries that are good, entries that are not, and room that is made.

use super::*;

fn subject(n: u8) -> Subject {
    Subject { build_id: BuildId::new(&[n; 20]).unwrap(), size: 1000, shape: 7 }
}

fn put(cache: &Cache, subject: &Subject, what: &str, bytes: &[u8]) -> io::Result<Kept> {
    cache.fill(subject, what, bytes.len().to_u64(), |out| out.write_all(bytes))
}

fn entries(cache: &Cache) -> Vec<String> {
    let list = std::fs::read_dir(&cache.folder).unwrap();
    let mut names: Vec<_> = list.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_written_is_read_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    assert!(cache.load(&subject(1), "units").is_none());
    assert_eq!(&*put(&cache, &subject(1), "units", b"contents").unwrap(), b"contents");
    assert_eq!(&*cache.load(&subject(1), "units").unwrap(), b"contents");
    assert_eq!(&*cache.load_large(&subject(1), "units").unwrap(), b"contents");
    let others = [Subject { shape: 8, ..subject(1) }, Subject { size: 1001, ..subject(1) }, subject(2)];
    for other in others {
        assert!(cache.load(&other, "units").is_none(), "{other:?}");
    }
    assert!(cache.load(&subject(1), "other").is_none());
    assert!(put(&cache, &subject(1), "../units", b"x").is_err());
    assert!(put(&cache, &subject(1), "", b"").unwrap().is_empty());
}

#[test]
fn an_entry_changed_anywhere_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    let contents: Vec<u8> = (0..=255).collect();
    put(&cache, &subject(1), "units", &contents).unwrap();
    let path = cache.path(&subject(1), "units").unwrap();
    let good = std::fs::read(&path).unwrap();
    let is_there = || cache.load(&subject(1), "units").is_some() || cache.load_large(&subject(1), "units").is_some();
    for at in (0..200).chain(4000..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert!(!is_there(), "byte {at}");
    }
    for length in [0, 1, 4095, 4096, good.len() - 1] {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(!is_there(), "cut to {length}");
    }
    std::fs::write(&path, [&good[..], b"more"].concat()).unwrap();
    assert!(!is_there());
    // Copied as it was: verified in full, and marked so.
    std::fs::write(&path, &good).unwrap();
    assert_eq!(&*cache.load_large(&subject(1), "units").unwrap(), contents);
    assert_eq!(&*cache.load_large(&subject(1), "units").unwrap(), contents);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(!is_there() && put(&cache, &subject(1), "units", b"x").is_err());
}

#[test]
fn a_failed_write_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache { limit: 100_000, ..Cache::new(folder.path()) };
    assert!(cache.fill(&subject(1), "units", 5, |out| out.write_all(b"four")).is_err());
    assert!(cache.fill(&subject(1), "units", 4, |_| Err(io::ErrorKind::Other.into())).is_err());
    assert!(cache.fill(&subject(1), "units", 100_001, |_| Ok(())).is_err());
    assert_eq!(entries(&cache), Vec::<String>::new());
    assert!(put(&Cache::new(Path::new("/proc/nowhere")), &subject(1), "units", b"x").is_err());
}

#[test]
fn what_was_unused_for_longest_goes() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache { limit: 3 * 14_096, ..Cache::new(folder.path()) };
    let contents = vec![1; 10_000];
    let minute = Duration::from_secs(60);
    for n in 1..=3 {
        put(&cache, &subject(n), "units", &contents).unwrap();
        let file = File::options().write(true).open(cache.path(&subject(n), "units").unwrap()).unwrap();
        let used = SystemTime::now() - minute * (10 - u32::from(n));
        file.set_times(std::fs::FileTimes::new().set_accessed(used)).unwrap();
    }
    assert!(cache.load_large(&subject(1), "units").is_some());
    put(&cache, &subject(4), "units", &contents).unwrap();
    let there = |n| cache.load(&subject(n), "units").is_some();
    assert_eq!([1, 2, 3, 4].map(there), [true, false, true, true]);
}

#[test]
fn many_write_the_same_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    std::thread::scope(|scope| {
        for n in 0..8_u8 {
            let cache = &cache;
            scope.spawn(move || {
                for _ in 0..20 {
                    put(cache, &subject(1), "units", &vec![n; 5000 + usize::from(n)]).unwrap();
                    let read = cache.load(&subject(1), "units").unwrap();
                    assert!(read.iter().all(|b| *b == read[0]) && read.len() == 5000 + usize::from(read[0]));
                }
            });
        }
    });
    assert_eq!(entries(&cache).len(), 1);
}

#[test]
fn numbers() {
    let numbers = [0, 1, u64::MAX];
    let bytes = numbers_to_bytes(&numbers);
    assert_eq!(bytes_to_numbers(&bytes).unwrap().collect::<Vec<_>>(), numbers);
    assert!(bytes_to_numbers(&bytes[..9]).is_none());
}
