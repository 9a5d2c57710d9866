use super::*;
use std::collections::BTreeSet;
use tempfile::TempDir;

const NAME: u128 = 0xab00_0000_0000_0000_0000_0000_0000_0001;
const PAYLOAD: &str = r#"{"stable":true}"#;

fn place() -> (TempDir, Folder) {
    let place = tempfile::tempdir().expect("a temporary folder");
    let folder = Folder::new(&place.path().join("cache"), 64 << 20);
    (place, folder)
}

#[test]
fn what_was_put_is_found_under_its_name_only() {
    let (_place, folder) = place();
    assert_eq!(folder.get(NAME), None);
    folder.put(NAME, PAYLOAD);
    assert_eq!(folder.get(NAME).as_deref(), Some(PAYLOAD));
    assert_eq!(folder.get(NAME + 1), None);
    fs::rename(folder.file(NAME), folder.file(NAME + 1)).expect("renamed");
    assert_eq!(folder.get(NAME + 1), None, "the sum covers the name");
    assert_eq!(folder.trouble(), None);
}

#[test]
fn a_torn_or_spoilt_entry_is_nothing_and_is_written_again() {
    let (_place, folder) = place();
    folder.put(NAME, PAYLOAD);
    let file = folder.file(NAME);
    let whole = fs::read(&file).expect("it was put");
    for cut in 0..whole.len() {
        fs::write(&file, &whole[..cut]).expect("written");
        assert_eq!(folder.get(NAME), None, "cut at {cut}");
    }
    for at in 0..whole.len() {
        for bit in [0x01, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            fs::write(&file, &bytes).expect("written");
            assert_eq!(folder.get(NAME), None, "byte {at}");
        }
    }
    folder.put(NAME, PAYLOAD);
    assert_eq!(folder.get(NAME).as_deref(), Some(PAYLOAD));
    assert_eq!(folder.trouble(), None);
}

#[test]
fn a_place_that_cannot_be_written_is_told_once_and_nothing_else_is_tried() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let file = place.path().join("file");
    fs::write(&file, "no folder").expect("written");
    let folder = Folder::new(&file, 1 << 20);
    assert_eq!(folder.get(NAME), None);
    folder.put(NAME, PAYLOAD);
    let told = folder.trouble().expect("it cannot be written");
    assert!(told.starts_with("cannot"), "{told}");
    folder.put(NAME + 1, PAYLOAD);
    assert_eq!(folder.trouble(), Some(told));
}

#[test]
fn the_oldest_go_when_a_folder_is_full() {
    let place = tempfile::tempdir().expect("a temporary folder");
    // Eight entries of one block in each folder.
    let folder = Folder::new(place.path(), 8 * BLOCK * SHARDS as u64);
    let old = SystemTime::UNIX_EPOCH;
    for index in 0..20 {
        folder.put(NAME + index, PAYLOAD);
        let file = fs::File::options().append(true).open(folder.file(NAME + index));
        let at = old + std::time::Duration::from_secs(index as u64);
        file.and_then(|file| file.set_modified(at)).expect("it was just put");
        let usage = folder.usage().expect("listed");
        assert!(usage.entries <= 8, "{usage:?}");
    }
    let left: BTreeSet<u128> = (0..20).filter(|k| folder.get(NAME + k).is_some()).collect();
    assert!(left.len() >= 6, "{left:?}");
    assert!(left.iter().all(|index| *index >= 20 - left.len() as u128), "{left:?}");
    // Who comes later counts what is there.
    let later = Folder::new(place.path(), 2 * BLOCK * SHARDS as u64);
    later.put(NAME + 99, PAYLOAD);
    assert!(later.usage().expect("listed").entries <= 2);
}

#[test]
fn many_threads_and_processes_may_put_the_same() {
    let (place, folder) = place();
    let other = Folder::new(&place.path().join("cache"), 64 << 20);
    std::thread::scope(|scope| {
        for folder in [&folder, &folder, &other, &other] {
            scope.spawn(move || {
                for index in 0..200 {
                    folder.put(NAME + index % 50, PAYLOAD);
                    let found = folder.get(NAME + index % 50);
                    assert_eq!(found.as_deref(), Some(PAYLOAD));
                }
            });
        }
    });
    assert_eq!((folder.trouble(), other.trouble()), (None, None));
    assert_eq!(folder.usage().expect("listed").entries, 50, "nothing is left beside them");
}

#[test]
fn clearing_takes_what_is_there_and_nothing_else() {
    let (_place, folder) = place();
    assert_eq!(folder.clear().expect("nothing to list"), Usage::default());
    for index in 0..5 {
        folder.put(NAME + (index << 120), PAYLOAD);
    }
    let left_by_a_killed_process = folder.file(NAME).with_extension("77-3");
    fs::write(left_by_a_killed_process, "{\"su").expect("written");
    let foreign = folder.path().join("README");
    fs::write(&foreign, "mine").expect("written");
    let usage = folder.usage().expect("listed");
    assert_eq!(usage, Usage { entries: 6, bytes: 6 * BLOCK });
    assert_eq!(folder.clear().expect("removed"), usage);
    assert_eq!(folder.usage().expect("listed"), Usage::default());
    assert!(foreign.is_file());
}
