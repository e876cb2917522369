//! One suite for every kind of store: here on a local folder; the whole-system tests run S3.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::*;

fn folder() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::Folder(Folder::new(folder.path().join("out")));
    (folder, store)
}

async fn put(store: &Store, key: &str, bytes: &'static [u8]) -> Result<Stored, StoreError> {
    store
        .put_new(key, Bytes::from_static(bytes), plain_content(bytes))
        .await
}

#[tokio::test]
async fn an_object_is_written_once_and_never_overwritten() {
    let (_folder, store) = folder();
    store.check().await.unwrap();
    assert_eq!(
        put(&store, "a/b/x.ndjson", b"one\n").await.unwrap(),
        Stored::Written
    );
    assert_eq!(
        put(&store, "a/b/x.ndjson", b"one\n").await.unwrap(),
        Stored::AlreadyThere
    );
    assert!(matches!(
        put(&store, "a/b/x.ndjson", b"two\n").await,
        Err(StoreError::Conflict { .. })
    ));
    assert_eq!(store.get("a/b/x.ndjson").await.unwrap().unwrap(), "one\n");
    assert_eq!(store.get("a/b/y").await.unwrap(), None);
}

#[tokio::test]
async fn an_object_is_read_a_piece_at_a_time() {
    use std::io::Read;
    let (_folder, store) = folder();
    let bytes: Vec<u8> = (0..1_000_003_u32).flat_map(u32::to_le_bytes).collect();
    let content = plain_content(&bytes);
    let put = store.put_new("large", bytes.clone().into(), content).await;
    assert_eq!(put.unwrap(), Stored::Written);
    let open = async || store.open("large").await.unwrap().unwrap();
    let all = |mut pieces: Pieces| {
        let mut read = Vec::new();
        pieces.read_to_end(&mut read).unwrap();
        read
    };
    assert!(open().await.through(all).await.unwrap() == bytes);
    // Whoever has seen enough leaves the rest.
    let first = |mut pieces: Pieces| {
        let mut read = [0; 10];
        pieces.read_exact(&mut read).unwrap();
        read
    };
    let first = open().await.through(first).await.unwrap();
    assert_eq!(first, bytes[..10]);
    assert!(store.open("none").await.unwrap().is_none());
}

/// A disk that does not answer holds up whoever reads from it, and no other task: here a pipe that nobody writes to.
#[tokio::test]
async fn a_file_is_read_on_a_thread_that_may_wait() {
    use std::io::Write;
    use std::time::Duration;
    let (folder, store) = folder();
    let pipe = folder.path().join("out/pipe");
    std::fs::create_dir_all(folder.path().join("out")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let (others, work) = std::sync::mpsc::sync_channel(1);
    let writer = std::thread::spawn(move || {
        let mut pipe = std::fs::OpenOptions::new().write(true).open(pipe).unwrap();
        let in_time = work.recv_timeout(Duration::from_secs(60)).is_ok();
        pipe.write_all(b"one").unwrap();
        in_time
    });
    let reading = store.open("pipe").await.unwrap().unwrap();
    let read = reading.through(|mut pieces| std::io::read_to_string(&mut pieces));
    let mut read = pin!(read);
    let at_once = poll_fn(|context| Poll::Ready(read.as_mut().poll(context).is_ready())).await;
    others.send(()).unwrap();
    assert!(!at_once);
    assert_eq!(read.await.unwrap().unwrap(), "one");
    assert!(writer.join().unwrap(), "the runtime's thread waited");
}

/// What was made of a part is not taken for what is there: a folder can be opened like a file, and not be read.
#[tokio::test]
async fn what_cannot_be_read_to_its_end_is_an_error() {
    let (_folder, store) = folder();
    put(&store, "a/b", b"one\n").await.unwrap();
    let reading = store.open("a").await.unwrap().unwrap();
    let read = reading.through(|mut pieces| std::io::read_to_string(&mut pieces));
    assert!(matches!(read.await, Err(StoreError::Later(_))));
}

#[tokio::test]
async fn the_same_rows_from_another_compressor_are_the_same() {
    let (_folder, store) = folder();
    let rows = b"row\n".repeat(1000);
    for (level, expected) in [(1, Stored::Written), (19, Stored::AlreadyThere)] {
        let bytes = Bytes::from(zstd::bulk::compress(&rows, level).unwrap());
        let stored = store
            .put_new("x.ndjson.zst", bytes, plain_content(&rows))
            .await;
        assert_eq!(stored.unwrap(), expected);
    }
}

#[tokio::test]
async fn listing_removal_and_no_leftovers() {
    let (folder, store) = folder();
    for key in ["b/1", "a/2", "a/c/3"] {
        put(&store, key, b"x").await.unwrap();
    }
    let list = async |prefix: &str| {
        let mut keys = Vec::new();
        store
            .list(prefix, |listed| keys.push((listed.key, listed.size)))
            .await
            .unwrap();
        keys.sort();
        keys
    };
    assert_eq!(
        list("a/").await,
        [("a/2".to_owned(), 1), ("a/c/3".to_owned(), 1)]
    );
    store.remove("a/2").await.unwrap();
    store.remove("a/2").await.unwrap();
    assert_eq!(list("").await.len(), 2);
    let files = walk(folder.path());
    assert!(
        !files.iter().any(|file| file.contains(".hw-tmp-")),
        "{files:?}"
    );
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path.display().to_string()]
            }
        })
        .collect()
}

/// Does something while the only thread that may wait is taken: then nothing can be done yet.
async fn elsewhere<T>(work: impl Future<Output = T>) -> T {
    let (taken, until) = std::sync::mpsc::sync_channel::<()>(0);
    let thread = tokio::task::spawn_blocking(move || until.recv().is_ok());
    let mut work = pin!(work);
    let at_once = poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_ready())).await;
    assert!(!at_once, "done by a thread that has other work");
    drop(taken);
    assert!(!thread.await.unwrap());
    work.await
}

/// A disk that does not answer, or a folder of a million files, holds up whoever waits for it, and no other task.
#[test]
fn nothing_of_a_folder_is_done_on_a_thread_of_the_runtime() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(1).build().unwrap();
    let (_folder, store) = folder();
    runtime.block_on(async {
        elsewhere(store.check()).await.unwrap();
        let stored = elsewhere(put(&store, "a/1", b"one")).await.unwrap();
        assert_eq!(stored, Stored::Written);
        assert_eq!(elsewhere(store.get("a/1")).await.unwrap().unwrap(), "one");
        let reading = elsewhere(store.open("a/1")).await.unwrap().unwrap();
        // Whoever reads it has the only thread: nothing of it waits for another.
        let first = reading.through(|mut pieces| {
            let mut first = [0; 3];
            std::io::Read::read_exact(&mut pieces, &mut first).map(|()| first)
        });
        assert_eq!(elsewhere(first).await.unwrap().unwrap(), *b"one");
        let mut listed = Vec::new();
        let list = store.list("", |one| listed.push(one.key));
        elsewhere(list).await.unwrap();
        assert_eq!(listed, ["a/1"]);
        elsewhere(store.remove("a/1")).await.unwrap();
        assert_eq!(store.get("a/1").await.unwrap(), None);
    });
}

#[tokio::test]
async fn a_listing_of_several_pages_is_whole() {
    let (folder, store) = folder();
    let root = folder.path().join("out/many");
    std::fs::create_dir_all(&root).unwrap();
    for n in 0..2 * PAGE + 3 {
        std::fs::write(root.join(n.to_string()), "x").unwrap();
    }
    let mut listed = Vec::new();
    store
        .list("many/", |one| listed.push(one.key))
        .await
        .unwrap();
    listed.sort();
    listed.dedup();
    assert_eq!(listed.len(), 2 * PAGE + 3);
}
