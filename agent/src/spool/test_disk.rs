//! A disk in memory for SQLite, in tests: it keeps what was written apart from what was synced, so
//! that the power can be cut at any operation, and it fails on demand.
//!
//! ```text
//!   SQLite ─ xWrite, xTruncate, xSync, xDelete ─► files (as the process sees them)
//!                                              └► log of operations ─ cut at k, by a seed ─► files
//!                                                                     (as the card has them)
//! ```
//!
//! After a cut, everything that a sync covered is there. Of what was not, any sectors are, in any
//! combination, as a card's controller and the page cache may have it; a sector is written whole.
//! A name that was never synced may be missing. This is the module of this crate that is unsafe:
//! SQLite's interface to files is C. It is compiled for tests only.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::ffi::{
    self, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_WRITE,
    SQLITE_NOTFOUND, SQLITE_OK, SQLITE_READONLY, sqlite3_file, sqlite3_io_methods, sqlite3_vfs,
};

use crate::delivery::backoff::Jitter;

const SECTOR: usize = 512;
const SHM_REGION: usize = 32 * 1024;

/// One thing that was done to a file.
#[derive(Debug, Clone)]
enum Operation {
    Write(String, u64, Vec<u8>),
    Truncate(String, u64),
    Sync(String),
    Delete(String, bool),
    /// Names are on disk.
    SyncFolder,
    /// The caller was told that something is on disk.
    Promise,
}

/// How the disk refuses to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Failing,
    FailingSync,
    ReadOnly,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    shm: Vec<Box<[u8]>>,
    log: Vec<Operation>,
    refusal: Option<Refusal>,
    /// Operations that still work before it refuses.
    patience: u64,
    refused: u64,
    reads: u64,
}

impl State {
    /// Whether a write may go through now, as SQLite's code.
    fn refuse(&mut self, is_sync: bool) -> Option<c_int> {
        let refusal = self.refusal?;
        if self.patience > 0 {
            self.patience -= 1;
            return None;
        }
        let code = match (refusal, is_sync) {
            (Refusal::Full, false) => SQLITE_FULL,
            (Refusal::Failing, false) => SQLITE_IOERR_WRITE,
            (Refusal::FailingSync, true) => SQLITE_IOERR_FSYNC,
            (Refusal::ReadOnly, false) => SQLITE_READONLY,
            _ => return None,
        };
        self.refused += 1;
        Some(code)
    }
}

type Shared = Arc<Mutex<State>>;

fn held(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A disk, registered with SQLite under a name of its own for as long as it lives. Connections to
/// it must be closed before.
pub(super) struct TestDisk {
    state: Shared,
    name: CString,
    vfs: *mut sqlite3_vfs,
}

impl TestDisk {
    /// An empty disk. `name` is nobody else's in this process.
    pub(super) fn new(name: &str) -> Self {
        Self::over(name, BTreeMap::new())
    }

    /// A disk with these files, all of them synced.
    pub(super) fn over(name: &str, files: BTreeMap<String, Vec<u8>>) -> Self {
        let state: Shared = Arc::new(Mutex::new(State {
            files,
            ..State::default()
        }));
        let name = CString::new(name).unwrap();
        let vfs = Box::new(sqlite3_vfs {
            iVersion: 1,
            szOsFile: c_int::try_from(size_of::<Handle>()).unwrap(),
            mxPathname: 512,
            pNext: ptr::null_mut(),
            zName: name.as_ptr(),
            pAppData: Arc::as_ptr(&state).cast_mut().cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: None,
            xCurrentTimeInt64: None,
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        });
        let vfs = Box::into_raw(vfs);
        // SAFETY: the structure and the name live until `drop` has unregistered them.
        let registered = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
        assert_eq!(registered, SQLITE_OK);
        Self { state, name, vfs }
    }

    pub(super) fn name(&self) -> &str {
        self.name.to_str().unwrap()
    }

    /// The caller was told that what it did is on disk.
    pub(super) fn promise(&self) {
        held(&self.state).log.push(Operation::Promise);
    }

    /// The directory is synced, as the store does it when it has opened a database.
    pub(super) fn sync_folder(&self) {
        held(&self.state).log.push(Operation::SyncFolder);
    }

    /// Lets `patience` writes through (or syncs), and refuses from then on.
    pub(super) fn refuse(&self, refusal: Option<Refusal>, patience: u64) {
        let mut state = held(&self.state);
        (state.refusal, state.patience) = (refusal, patience);
    }

    /// How often it refused.
    pub(super) fn refused(&self) -> u64 {
        held(&self.state).refused
    }

    /// How often it was read from.
    pub(super) fn reads(&self) -> u64 {
        held(&self.state).reads
    }

    /// How many operations there were.
    pub(super) fn operations(&self) -> usize {
        held(&self.state).log.len()
    }

    /// The last of the first `operations`, for whoever looks for a mistake.
    pub(super) fn tail(&self, operations: usize, count: usize) -> String {
        let state = held(&self.state);
        let tail = state.log[..operations].iter().rev().take(count).rev();
        tail.map(|operation| match operation {
            Operation::Write(name, at, bytes) => format!("write {name} {at}+{}\n", bytes.len()),
            other => format!("{other:?}\n"),
        })
        .collect()
    }

    /// What the card holds when the power goes after `operations` of them, and how many promises
    /// were given by then. `seed` decides which sectors that nobody synced are there.
    pub(super) fn cut(&self, operations: usize, seed: u64) -> (BTreeMap<String, Vec<u8>>, usize) {
        let state = held(&self.state);
        let mut card = Card::default();
        for operation in &state.log[..operations] {
            card.apply(operation);
        }
        let promises = card.promises;
        (card.cut(&mut Jitter::new(seed)), promises)
    }
}

impl Drop for TestDisk {
    fn drop(&mut self) {
        // SAFETY: it was registered in `over`, made by `Box::into_raw`, and no connection is left.
        unsafe {
            ffi::sqlite3_vfs_unregister(self.vfs);
            drop(Box::from_raw(self.vfs));
        }
    }
}

/// What is durable, and what was done since.
#[derive(Debug, Default)]
struct Card {
    durable: BTreeMap<String, Vec<u8>>,
    pending: BTreeMap<String, Vec<Operation>>,
    deleted: BTreeSet<String>,
    promises: usize,
}

impl Card {
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Write(name, ..) | Operation::Truncate(name, _) => {
                let pending = self.pending.entry(name.clone()).or_default();
                pending.push(operation.clone());
            }
            Operation::Sync(name) => {
                let mut content = self.durable.remove(name).unwrap_or_default();
                for done in self.pending.remove(name).unwrap_or_default() {
                    perform(&mut content, &done, |_| true);
                }
                self.deleted.remove(name);
                self.durable.insert(name.clone(), content);
            }
            Operation::Delete(name, synced) => {
                self.pending.remove(name);
                if *synced {
                    self.durable.remove(name);
                } else {
                    self.deleted.insert(name.clone());
                }
            }
            Operation::SyncFolder => {
                for name in std::mem::take(&mut self.deleted) {
                    self.durable.remove(&name);
                }
            }
            Operation::Promise => self.promises += 1,
        }
    }

    fn cut(mut self, jitter: &mut Jitter) -> BTreeMap<String, Vec<u8>> {
        for name in &self.deleted {
            if jitter.draw().is_multiple_of(2) {
                self.durable.remove(name);
            }
        }
        // Nothing, everything, and all between.
        let odds = [0, 1, 2, 4][(jitter.draw() % 4) as usize];
        for (name, pending) in std::mem::take(&mut self.pending) {
            if !self.durable.contains_key(&name) && jitter.draw().is_multiple_of(2) {
                continue;
            }
            let content = self.durable.entry(name).or_default();
            for operation in &pending {
                perform(content, operation, |_| match odds {
                    0 => false,
                    odds => jitter.draw().is_multiple_of(odds),
                });
            }
        }
        self.durable
    }
}

/// Does to `content` what was done, as far as `reaches` says it does; a sector at a time.
fn perform(content: &mut Vec<u8>, operation: &Operation, mut reaches: impl FnMut(usize) -> bool) {
    match operation {
        Operation::Write(_, at, bytes) => {
            let mut from = 0;
            while from < bytes.len() {
                let at = usize::try_from(*at).unwrap() + from;
                let sector = (SECTOR - at % SECTOR).min(bytes.len() - from);
                if reaches(at) {
                    if content.len() < at + sector {
                        content.resize(at + sector, 0);
                    }
                    content[at..at + sector].copy_from_slice(&bytes[from..from + sector]);
                }
                from += sector;
            }
        }
        Operation::Truncate(_, length) => {
            if reaches(0) {
                content.truncate(usize::try_from(*length).unwrap());
            }
        }
        Operation::Sync(_) | Operation::Delete(..) | Operation::SyncFolder | Operation::Promise => {
        }
    }
}

/// An open file, as SQLite holds it: made by it, filled by [`open`], emptied by [`close`].
#[repr(C)]
struct Handle {
    base: sqlite3_file,
    file: *mut OpenFile,
}

struct OpenFile {
    name: String,
    state: Shared,
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// SAFETY of all below: SQLite calls them with what its documentation says: a `vfs` that is registered,
/// a `file` that [`open`] filled, buffers of the length given.
unsafe fn state_of(vfs: *mut sqlite3_vfs) -> Shared {
    unsafe {
        let raw: *const Mutex<State> = (*vfs).pAppData.cast();
        Arc::increment_strong_count(raw);
        Arc::from_raw(raw)
    }
}

unsafe fn file_of<'a>(file: *mut sqlite3_file) -> &'a OpenFile {
    unsafe { &*(*file.cast::<Handle>()).file }
}

unsafe fn text(name: *const c_char) -> String {
    if name.is_null() {
        return "temporary".to_owned();
    }
    unsafe { CStr::from_ptr(name) }
        .to_string_lossy()
        .into_owned()
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    unsafe {
        let (name, state) = (text(name), state_of(vfs));
        held(&state).files.entry(name.clone()).or_default();
        let handle = file.cast::<Handle>();
        (*handle).file = Box::into_raw(Box::new(OpenFile { name, state }));
        (*handle).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    unsafe { drop(Box::from_raw((*file.cast::<Handle>()).file)) };
    SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    into: *mut c_void,
    length: c_int,
    at: i64,
) -> c_int {
    let file = unsafe { file_of(file) };
    let into = unsafe { std::slice::from_raw_parts_mut(into.cast::<u8>(), length as usize) };
    let mut state = held(&file.state);
    state.reads += 1;
    let content = state.files.get(&file.name).map_or(&[][..], Vec::as_slice);
    let from = (at as usize).min(content.len());
    let there = into.len().min(content.len() - from);
    into[..there].copy_from_slice(&content[from..from + there]);
    into[there..].fill(0);
    if there < into.len() {
        SQLITE_IOERR_SHORT_READ
    } else {
        SQLITE_OK
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    length: c_int,
    at: i64,
) -> c_int {
    let file = unsafe { file_of(file) };
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), length as usize) };
    do_to(
        file,
        Operation::Write(file.name.clone(), at as u64, bytes.to_vec()),
    )
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: i64) -> c_int {
    let file = unsafe { file_of(file) };
    do_to(file, Operation::Truncate(file.name.clone(), length as u64))
}

fn do_to(file: &OpenFile, operation: Operation) -> c_int {
    let mut state = held(&file.state);
    if let Some(code) = state.refuse(false) {
        return code;
    }
    let content = state.files.entry(file.name.clone()).or_default();
    perform(content, &operation, |_| true);
    state.log.push(operation);
    SQLITE_OK
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    let file = unsafe { file_of(file) };
    let mut state = held(&file.state);
    if let Some(code) = state.refuse(true) {
        return code;
    }
    state.log.push(Operation::Sync(file.name.clone()));
    SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut i64) -> c_int {
    let file = unsafe { file_of(file) };
    let length = held(&file.state).files.get(&file.name).map_or(0, Vec::len);
    unsafe { *size = length as i64 };
    SQLITE_OK
}

unsafe extern "C" fn lock(_file: *mut sqlite3_file, _level: c_int) -> c_int {
    SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_file: *mut sqlite3_file, reserved: *mut c_int) -> c_int {
    unsafe { *reserved = 0 };
    SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut sqlite3_file) -> c_int {
    SECTOR as c_int
}

unsafe extern "C" fn device_characteristics(_file: *mut sqlite3_file) -> c_int {
    // What SQLite takes every disk for, unless it is told otherwise.
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    let file = unsafe { file_of(file) };
    assert_eq!(size as usize, SHM_REGION);
    let mut state = held(&file.state);
    while state.shm.len() <= region as usize && extend != 0 {
        state.shm.push(vec![0; SHM_REGION].into_boxed_slice());
    }
    let found = state.shm.get_mut(region as usize);
    unsafe { *out = found.map_or(ptr::null_mut(), |found| found.as_mut_ptr().cast()) };
    SQLITE_OK
}

unsafe extern "C" fn shm_lock(_: *mut sqlite3_file, _: c_int, _: c_int, _: c_int) -> c_int {
    SQLITE_OK
}

unsafe extern "C" fn shm_barrier(_file: *mut sqlite3_file) {}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    let file = unsafe { file_of(file) };
    if delete != 0 {
        held(&file.state).shm.clear();
    }
    SQLITE_OK
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    let (name, state) = unsafe { (text(name), state_of(vfs)) };
    let mut state = held(&state);
    state.files.remove(&name);
    state.log.push(Operation::Delete(name, sync != 0));
    SQLITE_OK
}

unsafe extern "C" fn access(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    _flags: c_int,
    out: *mut c_int,
) -> c_int {
    let (name, state) = unsafe { (text(name), state_of(vfs)) };
    let exists = held(&state).files.contains_key(&name);
    unsafe { *out = c_int::from(exists) };
    SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    length: c_int,
    out: *mut c_char,
) -> c_int {
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        assert!(bytes.len() <= length as usize);
        ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
    }
    SQLITE_OK
}

unsafe extern "C" fn randomness(_vfs: *mut sqlite3_vfs, length: c_int, out: *mut c_char) -> c_int {
    let mut bytes = vec![0_u8; length as usize];
    getrandom::fill(&mut bytes).unwrap();
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len()) };
    length
}

unsafe extern "C" fn sleep(_vfs: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    microseconds
}

unsafe extern "C" fn current_time(_vfs: *mut sqlite3_vfs, out: *mut f64) -> c_int {
    unsafe { *out = 2_460_000.5 };
    SQLITE_OK
}
