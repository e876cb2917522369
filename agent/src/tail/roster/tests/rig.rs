//! A folder, a database in memory, a roster whose time the test moves, and everything it gave.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use glob::Pattern;
use headwater_record::notice::Tail;
use headwater_record::{DeviceId, Generation, Kind, Ledger, Notice, Span};
use tempfile::TempDir;
use tokio::sync::mpsc::{self, Receiver};

use super::super::{Pass, Roster};
use crate::batch::Batch;
use crate::budget::{Budget, Permit, Shares};
use crate::checkpoint::{
    CLOSED_OF_STREAM_MAX, ClosedFile, Entered, FileIdentity, Knowledge, Marker, OpenGeneration,
    Origin, Refused, Registry, StoreStopped, keep_earlier,
};
use crate::clock::Monotonic;
use crate::config::FileSource;
use crate::config::file::{LastLine, StartAt};
use crate::discover::sizes::{Sizes, without_nuls};
use crate::discover::told::Told;
use crate::discover::watch::Changed;
use crate::discover::{counted, scan};
use crate::frame::encoding::Encoding;
use crate::frame::frames::{AtCut, Framing};
use crate::process::ProcessPlan;
use crate::sources::draw_generation;
use crate::spool::Lane;
use crate::spool::disk::Floors;
use crate::spool::{chained, split};
use crate::stop::Stop;
use crate::tail::content::born;
use crate::tail::counters::Counters;
use crate::tail::desk::{Desk, Entry};
use crate::tail::nameless::Nameless;
use crate::tail::reader::counted_turns;

/// Longest line of the rig's source, bytes.
pub(super) const MAX_LINE: usize = 16;
const CLOSE_AFTER: Duration = Duration::from_secs(5);

/// The database, as far as sources see it.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(
    Arc<Mutex<BTreeMap<Generation, OpenGeneration>>>,
    /// Whether its disk is full.
    Arc<AtomicBool>,
    Arc<Mutex<Over>>,
);

/// What is closed, or about to be; and what there was.
#[derive(Debug, Default)]
struct Over {
    /// All that were entered.
    entered: Vec<Generation>,
    read_whole: BTreeMap<Generation, (FileIdentity, Marker)>,
    /// As they are kept in mind.
    closed: Vec<ClosedFile>,
    /// Which go on, where, and as which.
    goes_on: HashMap<Generation, (u64, Generation)>,
    /// Marks that wait for a checkpoint, where one is to be made by hand.
    waiting: Option<BTreeMap<Generation, (Marker, u64)>>,
}

impl Over {
    fn of(&self, open: &OpenGeneration) -> Option<ClosedFile> {
        let Origin::File(file) = &open.origin else {
            return None;
        };
        let whole = self.read_whole.get(&open.generation);
        let (file, marker) = match whole {
            Some((file, marker)) => (file, Some(*marker)),
            None => (file, open.marker),
        };
        Some(ClosedFile {
            stream: open.stream.clone(),
            file: file.clone(),
            marker,
            is_whole: whole.is_some(),
        })
    }
}

impl Memory {
    pub(super) fn change(&self, generation: Generation, with: impl FnOnce(&mut OpenGeneration)) {
        if let Some(open) = self.0.lock().unwrap().get_mut(&generation) {
            with(open);
        }
    }

    pub(super) fn fill(&self, is_full: bool) {
        self.1.store(is_full, Ordering::Relaxed);
    }

    fn entered(&self) -> Entered {
        match self.1.load(Ordering::Relaxed) {
            true => Err(Refused("no space is left")),
            false => Ok(()),
        }
    }

    /// Its close is settled.
    pub(super) fn forget(&self, generation: Generation) {
        let mut over = self.2.lock().unwrap();
        if let Some(open) = self.0.lock().unwrap().remove(&generation) {
            let went_on = over.goes_on.remove(&generation).is_some();
            let closed = over.of(&open).filter(|_| !went_on);
            over.closed.extend(closed);
            over.closed
                .sort_by_key(|closed| Reverse(closed.file.since_ms));
            let mut kept = HashMap::new();
            over.closed.retain(|closed| {
                let of_stream = kept.entry(closed.stream.clone()).or_insert(0);
                *of_stream += 1;
                *of_stream <= CLOSED_OF_STREAM_MAX
            });
        }
    }

    /// What sources are told when they start.
    pub(super) fn known(&self) -> Knowledge {
        let open = self.open();
        let over = self.2.lock().unwrap();
        let about_to_be = open
            .iter()
            .filter(|open| over.read_whole.contains_key(&open.generation))
            .filter_map(|open| over.of(open));
        let closed = over.closed.iter().cloned().chain(about_to_be).collect();
        Knowledge {
            open: chained(open.clone(), &over.goes_on),
            closed,
            rebooted: false,
        }
    }

    /// The agent has ended: what it did not write down is gone.
    fn forget_notes(&self) {
        let mut over = self.2.lock().unwrap();
        over.read_whole.clear();
        over.waiting.iter_mut().for_each(BTreeMap::clear);
    }

    /// From now on marks wait for [`Memory::checkpoint`].
    pub(super) fn checkpoint_by_hand(&self) {
        self.2.lock().unwrap().waiting = Some(BTreeMap::new());
    }

    /// What was marked is written down.
    pub(super) fn checkpoint(&self) {
        let waiting = std::mem::take(self.2.lock().unwrap().waiting.as_mut().unwrap());
        for (generation, (marker, since_ms)) in waiting {
            self.write_mark(generation, marker, since_ms);
        }
    }

    /// Rows that a salvage could not read.
    pub(super) fn lose(&self, which: impl Fn(&OpenGeneration) -> bool) {
        self.0.lock().unwrap().retain(|_, open| !which(open));
    }

    fn write_mark(&self, generation: Generation, marker: Marker, since_ms: u64) {
        self.change(generation, |open| {
            if let Some(last) = open.marker.replace(marker) {
                keep_earlier(&mut open.earlier, last, marker.end);
            }
            if let Origin::File(file) = &mut open.origin {
                file.since_ms = since_ms;
            }
        });
    }

    /// The last run was cut off.
    fn split(&self, sizes: &Sizes) {
        for old in self.known().open {
            let old = old.chain().last().unwrap();
            if let Some(at) = split::ends_at(old, sizes) {
                let new = split::next(old, at, draw_generation().unwrap());
                let on = (at, new.generation);
                self.2.lock().unwrap().goes_on.insert(old.generation, on);
                self.register(&[new]).unwrap();
            }
        }
    }

    /// In an order that is another one than that of their files, but the same in each run of a test: their names
    /// are random.
    pub(super) fn open(&self) -> Vec<OpenGeneration> {
        let entered = &self.2.lock().unwrap().entered;
        let mut open: Vec<_> = self.0.lock().unwrap().values().cloned().collect();
        open.sort_by_key(|open| {
            let nth = entered
                .iter()
                .position(|entered| *entered == open.generation);
            crc32c::crc32c(&nth.unwrap_or_default().to_le_bytes())
        });
        open
    }
}

impl Registry for Memory {
    fn register(&self, new: &[OpenGeneration]) -> Result<(), StoreStopped> {
        let mut held = self.0.lock().unwrap();
        for open in new {
            self.2.lock().unwrap().entered.push(open.generation);
            assert!(held.insert(open.generation, open.clone()).is_none());
        }
        Ok(())
    }

    fn identify(&self, files: &[(Generation, FileIdentity)]) -> Result<(), StoreStopped> {
        for (generation, identity) in files {
            self.change(*generation, |open| {
                if let Origin::File(file) = &mut open.origin {
                    let since_ms = file.since_ms;
                    *file = identity.clone();
                    if identity.fingerprint_len > 0 {
                        file.since_ms = since_ms;
                    }
                }
            });
        }
        Ok(())
    }

    fn cut(&self, generation: Generation, offset: u64) -> Result<(), StoreStopped> {
        self.change(generation, |open| {
            open.cuts.push(offset);
            open.cuts.sort_unstable();
        });
        Ok(())
    }

    fn try_register(&self, new: &[OpenGeneration]) -> Result<Entered, StoreStopped> {
        match self.entered() {
            Ok(()) => self.register(new).map(Ok),
            refused => Ok(refused),
        }
    }

    fn try_identify(&self, files: &[(Generation, FileIdentity)]) -> Result<Entered, StoreStopped> {
        match self.entered() {
            Ok(()) => self.identify(files).map(Ok),
            refused => Ok(refused),
        }
    }

    fn try_cut(&self, generation: Generation, offset: u64) -> Result<Entered, StoreStopped> {
        match self.entered() {
            Ok(()) => self.cut(generation, offset).map(Ok),
            refused => Ok(refused),
        }
    }

    fn read_whole(&self, generation: Generation, file: &FileIdentity, marker: Marker) {
        let mut over = self.2.lock().unwrap();
        over.read_whole.insert(generation, (file.clone(), marker));
    }

    fn mark_entry(&self, _: Generation, _: Marker, _: Marker) {
        panic!("a file has no entries")
    }

    /// At once, where the database waits for the next checkpoint: an earlier marker tells less.
    fn mark(&self, generation: Generation, marker: Marker, since_ms: u64) {
        if self.entered().is_err() {
            return;
        }
        if let Some(waiting) = &mut self.2.lock().unwrap().waiting {
            waiting.insert(generation, (marker, since_ms));
            return;
        }
        self.write_mark(generation, marker, since_ms);
    }
}

/// A record as it left the roster.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) generation: Generation,
    pub(super) span: Span,
    pub(super) kind: Kind,
    pub(super) message: String,
    pub(super) continued: bool,
    pub(super) continues: bool,
    notice: Option<Notice>,
}

impl Given {
    /// What must be the same where the same bytes are given again.
    pub(super) fn content(&self) -> (Span, &str, bool, bool) {
        (self.span, &self.message, self.continued, self.continues)
    }
}

pub(super) struct Rig {
    folder: TempDir,
    /// Below it, where names lie.
    pub(super) base: &'static str,
    pub(super) source: FileSource,
    /// Another source beside it.
    pub(super) second: Option<FileSource>,
    pub(super) window_bytes: usize,
    pub(super) open_max: usize,
    pub(super) floors: Floors,
    pub(super) memory: Memory,
    pub(super) counters: Arc<Counters>,
    nameless: Nameless,
    running: Option<(Roster<Memory>, Receiver<Batch>)>,
    held: Vec<Batch>,
    /// The agent's next start is the first one since the system's,
    pub(super) rebooted: bool,
    /// and it had ended in order before.
    in_order: bool,
    /// How long files were when the system started, where somebody looked.
    pub(super) sizes: Sizes,
    now: Monotonic,
    /// Everything that was given since the rig was made.
    pub(super) records: Vec<Given>,
    /// So many of them before this start of the agent: whoever settled them would have done so by then.
    before_start: usize,
    /// Generations in the order of their first record.
    order: Vec<Generation>,
    /// Folders of which is told whatever happens there, and how their names looked when that was told last.
    pub(super) told: Told,
    heard: BTreeMap<OsString, (u64, u64, SystemTime)>,
}

impl Rig {
    /// `glob`: relative to the rig's folder.
    pub(super) fn new(glob: &str) -> Self {
        born::forget();
        let folder = tempfile::tempdir().unwrap();
        let glob = format!("{}/{glob}", folder.path().display());
        Self {
            source: FileSource {
                lane: Lane::Normal,
                id: "app".parse().unwrap(),
                paths: vec![Pattern::new(&glob).unwrap()],
                exclude: Vec::new(),
                start_at: StartAt::Beginning,
                framing: Framing {
                    encoding: Encoding::UTF_8,
                    max_line: MAX_LINE,
                    multiline: None,
                    at_cut: AtCut::Complete,
                },
                multiline_timeout: Duration::from_secs(2),
                last_line: LastLine::Wait,
                last_line_after: Duration::from_secs(3),
                rescan: Duration::from_secs(10),
                close_after: CLOSE_AFTER,
                process: ProcessPlan::default(),
            },
            folder,
            base: "",
            second: None,
            window_bytes: 16 << 20,
            open_max: usize::MAX,
            floors: Floors::default(),
            memory: Memory::default(),
            counters: Arc::default(),
            nameless: Nameless::default(),
            running: None,
            held: Vec::new(),
            rebooted: false,
            in_order: false,
            sizes: Sizes::default(),
            now: Monotonic(0),
            records: Vec::new(),
            before_start: 0,
            order: Vec::new(),
            told: Told::default(),
            heard: BTreeMap::new(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(self.base).join(name)
    }

    pub(super) fn path_of(&self, name: &OsStr) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn append(&self, name: &str, text: &str) {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// A file as a program holds it that writes to it, whatever becomes of its name.
    pub(super) fn hold(&self, name: &str) -> File {
        let mut options = OpenOptions::new();
        options.append(true).open(self.path(name)).unwrap()
    }

    pub(super) fn append_bytes(&self, name: &str, bytes: &[u8]) {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(self.path(name));
        file.unwrap().write_all(bytes).unwrap();
    }

    /// Puts a link that leads to itself in the place of a file or folder of the rig's own folder: the
    /// system refuses to follow it, whoever asks.
    pub(super) fn refuse(&self, name: &str) {
        let path = self.folder.path().join(name);
        fs::rename(&path, self.folder.path().join("hidden")).unwrap();
        symlink(&path, &path).unwrap();
    }

    /// Takes that back.
    pub(super) fn grant(&self, name: &str) {
        let path = self.folder.path().join(name);
        fs::remove_file(&path).unwrap();
        fs::rename(self.folder.path().join("hidden"), &path).unwrap();
    }

    pub(super) fn skipped(&self) -> u64 {
        self.counters.skipped.load(Ordering::Relaxed)
    }

    pub(super) fn out_of_reach(&self) -> u64 {
        self.counters.out_of_reach.load(Ordering::Relaxed)
    }

    /// What was given since the agent started last.
    pub(super) fn since_start(&self) -> &[Given] {
        &self.records[self.before_start..]
    }

    /// How long the thread would sleep now.
    pub(super) fn next_due(&self) -> Duration {
        let (roster, _) = self.running.as_ref().unwrap();
        roster.next_due(self.now).since(self.now)
    }

    /// Every record's text, once.
    pub(super) fn all_messages(&self) -> Vec<String> {
        let mut once = BTreeMap::new();
        for record in self
            .records
            .iter()
            .filter(|record| record.kind == Kind::Data)
        {
            let key = (record.generation, record.span.start());
            let first = once.entry(key).or_insert(record);
            assert_eq!(first.content(), record.content());
        }
        (once.into_values())
            .map(|record| record.message.clone())
            .collect()
    }

    /// The text of every record, as they came.
    pub(super) fn messages(&self) -> Vec<String> {
        let data = (self.records.iter()).filter(|record| record.kind == Kind::Data);
        data.map(|record| record.message.clone()).collect()
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Compresses a file as gzip and zstd do: another file, of the same age, and the first is gone.
    pub(super) fn pack(&self, from: &str, to: &str) {
        let content = fs::read(self.path(from)).unwrap();
        self.write_packed(from, to, &content);
    }

    /// Compresses what is compressed already anew.
    pub(super) fn repack(&self, from: &str, to: &str) {
        let mut content = Vec::new();
        let file = File::open(self.path(from)).unwrap();
        flate2::read::MultiGzDecoder::new(file)
            .read_to_end(&mut content)
            .unwrap();
        self.write_packed(from, to, &content);
    }

    fn write_packed(&self, from: &str, to: &str, content: &[u8]) {
        let mut file = File::create(self.path(to)).unwrap();
        if to.ends_with("gz") {
            let mut gzip = flate2::write::GzEncoder::new(&file, flate2::Compression::fast());
            gzip.write_all(content).unwrap();
            gzip.finish().unwrap();
        } else {
            file.write_all(&zstd::encode_all(content, 3).unwrap())
                .unwrap();
        }
        let time = fs::metadata(self.path(from)).unwrap().modified().unwrap();
        file.set_modified(time).unwrap();
        fs::remove_file(self.path(from)).unwrap();
    }

    pub(super) fn set_modified(&self, name: &str, time: SystemTime) {
        let file = File::options().write(true).open(self.path(name));
        file.unwrap().set_modified(time).unwrap();
    }

    /// Sets when a file or folder was changed last, seconds after 1970.
    pub(super) fn touch(&self, name: &str, secs: u64) {
        let file = File::open(self.path(name));
        let time = std::time::UNIX_EPOCH + Duration::from_secs(secs);
        file.unwrap().set_modified(time).unwrap();
    }

    /// Says when a file was made, seconds after 1970.
    pub(super) fn born(&self, name: &str, secs: u64) {
        born::say(&fs::metadata(self.path(name)).unwrap(), secs * 1000);
    }

    pub(super) fn inode(&self, name: &str) -> u64 {
        fs::metadata(self.path(name)).unwrap().ino()
    }

    pub(super) fn start(&mut self) {
        self.memory.forget_notes();
        self.before_start = self.records.len();
        if self.rebooted && !self.in_order {
            self.memory.split(&std::mem::take(&mut self.sizes));
        }
        self.take_up();
    }

    fn take_up(&mut self) {
        let (batches, receiver) = mpsc::channel(4096);
        let desk = Desk {
            registry: self.memory.clone(),
            entry: Entry::new(1),
            budget: Budget::with_shares(self.window_bytes, self.shares()),
            batches,
            open_max: self.open_max,
            floors: self.floors,
            counters: Arc::clone(&self.counters),
            chunk: Vec::new(),
        };
        let device: DeviceId = "pi-7".parse().unwrap();
        let plans = [Some(self.source.clone()), self.second.clone()];
        let plans = plans.into_iter().flatten().collect();
        let known = Knowledge {
            rebooted: std::mem::take(&mut self.rebooted),
            ..self.memory.known()
        };
        let roster =
            Roster::start(device, plans, &known, self.nameless.take(), desk, self.now).unwrap();
        self.running = Some((roster, receiver));
    }

    fn shares(&self) -> Shares {
        let mut shares = Shares::default();
        for plan in [Some(&self.source), self.second.as_ref()]
            .into_iter()
            .flatten()
        {
            shares.waiting[plan.lane.index()] = true;
        }
        shares
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The first source has changed: it is let go of, and taken up as it is now. The second goes on.
    pub(super) fn change(&mut self) {
        self.remove_first();
        self.add_first();
    }

    pub(super) fn remove_first(&mut self) {
        let (roster, _) = self.running.as_mut().unwrap();
        let nameless = roster.let_go(std::slice::from_ref(&self.source.id));
        self.nameless.leave(nameless.unwrap());
        self.collect();
        self.settle_all();
    }

    pub(super) fn add_first(&mut self) {
        let (known, plans) = (self.memory.known(), vec![self.source.clone()]);
        let (roster, _) = self.running.as_mut().unwrap();
        roster
            .take_up(plans, &known, self.nameless.take(), self.now)
            .unwrap();
    }

    /// The agent goes on ("running"), has ended in order ("stopped"), or was killed ("crashed").
    pub(super) fn comes_to_be(&mut self, how: &str) {
        match how {
            "running" => {}
            "stopped" => self.stop(),
            "crashed" => self.crash(),
            how => panic!("{how}?"),
        }
    }

    /// Another configuration takes effect: one thread ends, and another begins.
    pub(super) fn reload(&mut self) {
        if let Some((mut roster, _)) = self.running.take() {
            roster.finish().unwrap();
            self.nameless.leave(roster.nameless());
        }
        self.take_up();
    }

    /// Stops in order. What the roster gave stays given.
    pub(super) fn stop(&mut self) {
        if let Some((mut roster, _)) = self.running.take() {
            roster.finish().unwrap();
        }
        self.in_order = true;
    }

    pub(super) fn crash(&mut self) {
        self.running = None;
        self.in_order = false;
    }

    /// As the system does early, before any program writes.
    pub(super) fn note_sizes(&mut self) {
        self.sizes = Sizes::default();
        for seen in scan(&self.source.paths, &self.source.exclude).files {
            let file = File::open(&seen.path).unwrap();
            let len = without_nuls(&file, seen.looks.unwrap().len).unwrap();
            self.sizes.insert((seen.device, seen.inode), len.unwrap());
        }
    }

    /// From now on whatever happens in these folders is told, and nothing else.
    pub(super) fn tell_of(&mut self, folders: &[&str]) {
        let folders: Vec<_> = folders.iter().map(|name| self.path(name)).collect();
        self.told = Told::all_of(folders.iter().map(PathBuf::as_path));
    }

    /// What is heard of by now.
    fn changed(&mut self) -> Changed {
        let folder = self.path("");
        if !self.told.of(&folder) {
            return Changed::any();
        }
        let Ok(entries) = fs::read_dir(&folder) else {
            return Changed::any();
        };
        let looks = |entry: &fs::DirEntry| {
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            (metadata.ino(), metadata.len(), metadata.modified().unwrap())
        };
        let now = entries.map(|entry| entry.unwrap());
        let now: BTreeMap<_, _> = now
            .map(|entry| (entry.file_name(), looks(&entry)))
            .collect();
        let before = std::mem::replace(&mut self.heard, now.clone());
        let names = before.keys().chain(now.keys());
        let differs = |name: &&OsString| before.get(*name) != now.get(*name);
        Changed::of(names.filter(differs).cloned().collect::<Vec<_>>())
    }

    /// So many rescans, each of which hears of these names; and the system was asked so often for files.
    pub(super) fn rescans(&mut self, times: u32, heard_of: &[&str]) -> u64 {
        let before = counted::looks();
        for _ in 0..times {
            self.now = self.now.plus(self.source.rescan);
            let changed = Changed::of(heard_of.iter().map(OsString::from));
            let (roster, _) = self.running.as_mut().unwrap();
            assert!(roster.scan(self.now, false, &self.told).unwrap());
            while roster.pass(&changed, self.now, &Stop::new()).unwrap() == Pass::Moved {}
        }
        let looks = counted::looks() - before;
        self.collect();
        looks
    }

    /// Scans and reads until nothing moves.
    pub(super) fn pump(&mut self) {
        self.collect();
        loop {
            let changed = self.changed();
            let (roster, _) = self.running.as_mut().unwrap();
            roster.scan(self.now, true, &self.told).unwrap();
            let pass = roster.pass(&changed, self.now, &Stop::new()).unwrap();
            self.collect();
            if pass == Pass::Idle {
                return;
            }
        }
    }

    /// Passes whose batches nobody acknowledges for now, until nothing moves.
    pub(super) fn pass_holding(&mut self) -> Pass {
        let (roster, receiver) = self.running.as_mut().unwrap();
        loop {
            let pass = roster
                .pass(&Changed::any(), self.now, &Stop::new())
                .unwrap();
            while let Ok(batch) = receiver.try_recv() {
                self.held.push(batch);
            }
            if pass != Pass::Moved {
                return pass;
            }
        }
    }

    /// One pass whose batches nobody acknowledges for now, and how many turns were given in it.
    pub(super) fn pass_once_holding(&mut self) -> (Pass, u64) {
        let (roster, receiver) = self.running.as_mut().unwrap();
        let before = counted_turns();
        let pass = roster
            .pass(&Changed::any(), self.now, &Stop::new())
            .unwrap();
        while let Ok(batch) = receiver.try_recv() {
            self.held.push(batch);
        }
        (pass, counted_turns() - before)
    }

    /// Takes what is left of the window for a lane.
    pub(super) fn fill_up(&self, lane: Lane) -> Vec<Permit> {
        let (roster, _) = self.running.as_ref().unwrap();
        let budget = &roster.desk.budget;
        std::iter::from_fn(|| budget.take(lane, 64, Duration::ZERO)).collect()
    }

    /// What was given of one source is acknowledged; the rest waits.
    pub(super) fn acknowledge(&mut self, source: &str) {
        let held = std::mem::take(&mut self.held);
        let is_its = |batch: &Batch| batch.stream.source() == source;
        let (its, rest) = held.into_iter().partition(is_its);
        self.held = its;
        self.collect();
        self.held = rest;
    }

    /// The oldest batch that waits is acknowledged.
    pub(super) fn acknowledge_one(&mut self) {
        let rest = self.held.split_off(1);
        self.collect();
        self.held = rest;
    }

    /// Lets some seconds go by, and scans: nobody acknowledges what was given.
    pub(super) fn scan_holding(&mut self, secs: u64) {
        self.now = self.now.plus(Duration::from_secs(secs));
        let (roster, _) = self.running.as_mut().unwrap();
        roster.scan(self.now, true, &self.told).unwrap();
    }

    /// Lets some seconds go by.
    pub(super) fn later(&mut self, secs: u64) {
        self.now = self.now.plus(Duration::from_secs(secs));
    }

    /// A scan, and one pass over all files.
    pub(super) fn scan_and_pass(&mut self) {
        let (roster, _) = self.running.as_mut().unwrap();
        roster.scan(self.now, true, &self.told).unwrap();
        self.pass_once();
    }

    /// How many compressed files are being decoded.
    pub(super) fn decoding(&self) -> usize {
        let (roster, _) = self.running.as_ref().unwrap();
        roster
            .followed
            .iter()
            .filter(|file| file.is_decoding())
            .count()
    }

    /// One pass over all files.
    pub(super) fn pass_once(&mut self) {
        let (roster, _) = self.running.as_mut().unwrap();
        (roster.pass(&Changed::any(), self.now, &Stop::new())).unwrap();
        self.collect();
    }

    /// One pass over those that have a turn by themselves: nothing was heard of any.
    pub(super) fn pass_unheard(&mut self) {
        let (roster, _) = self.running.as_mut().unwrap();
        (roster.pass(&Changed::default(), self.now, &Stop::new())).unwrap();
        self.collect();
    }

    /// Lets some seconds go by, and reads.
    pub(super) fn seconds_later(&mut self, secs: u64) {
        self.now = self.now.plus(Duration::from_secs(secs));
        self.pump();
    }

    /// Reads, and lets more than `close_after` go by.
    pub(super) fn pass_time(&mut self) {
        self.pump();
        self.now = self.now.plus(CLOSE_AFTER * 2);
        self.pump();
    }

    fn collect(&mut self) {
        let mut batches = std::mem::take(&mut self.held);
        if let Some((_, receiver)) = &mut self.running {
            while let Ok(batch) = receiver.try_recv() {
                batches.push(batch);
            }
        }
        for batch in batches {
            assert!(!batch.entries.is_empty() && batch.permit.is_some());
            if !self.order.contains(&batch.generation) {
                self.order.push(batch.generation);
            }
            for record in batch.records() {
                let value: serde_json::Value = serde_json::from_slice(record.value).unwrap();
                self.records.push(Given {
                    generation: batch.generation,
                    span: record.span,
                    kind: record.kind,
                    message: value["message"].as_str().unwrap_or_default().to_owned(),
                    continued: value.get("continued").is_some(),
                    continues: value.get("continues").is_some(),
                    notice: Notice::parse(record.value),
                });
            }
        }
    }

    /// The lines that one pump brings, pieces joined.
    pub(super) fn lines(&mut self) -> Vec<String> {
        let before = self.records.len();
        self.pump();
        join(&self.records[before..])
    }

    /// Every line since the rig was made, once: what was given again after a restart must be the
    /// same record again.
    pub(super) fn all_lines(&mut self) -> Vec<String> {
        self.pump();
        let mut once: BTreeMap<(Generation, u64), (usize, Given)> = BTreeMap::new();
        for (n, record) in self.records.iter().enumerate() {
            if record.kind == Kind::Data {
                let key = (record.generation, record.span.start());
                let (_, first) = once.entry(key).or_insert_with(|| (n, record.clone()));
                assert_eq!(first.content(), record.content());
            }
        }
        let mut once: Vec<_> = once.into_values().collect();
        once.sort_by_key(|(n, _)| *n);
        join(
            &once
                .into_iter()
                .map(|(_, record)| record)
                .collect::<Vec<_>>(),
        )
    }

    /// Generations in the order of their first record.
    pub(super) fn generations(&self) -> &[Generation] {
        &self.order
    }

    /// Every close: where, why, and whether it is complete.
    pub(super) fn closes(&self) -> Vec<(u64, String, Tail)> {
        let close = |record: &Given| match &record.notice {
            Some(Notice::Close { reason, tail }) => {
                Some((record.span.end(), reason.clone(), *tail))
            }
            _ => None,
        };
        self.records.iter().filter_map(close).collect()
    }

    /// To where the spans of a generation tile, by its place in the order.
    pub(super) fn tiled_to(&self, nth: usize) -> u64 {
        let (mut ledger, generation) = (Ledger::default(), self.order[nth]);
        for record in self
            .records
            .iter()
            .filter(|record| record.generation == generation)
        {
            if record.kind == Kind::Data {
                ledger.accept("s", generation, record.span, 0);
            } else {
                ledger.explain("s", generation, record.span, record.kind, None, 0);
            }
        }
        assert_eq!(ledger.unexplained_gaps(), 0);
        ledger.get("s", generation).map_or(0, |state| state.settled)
    }

    /// As if the broker had acknowledged a generation up to `offset`, by its place in the order.
    pub(super) fn settle(&mut self, nth: usize, offset: u64) {
        self.memory
            .change(self.order[nth], |open| open.settled = offset);
    }

    /// As if it had acknowledged everything.
    pub(super) fn settle_all(&mut self) {
        for record in &self.records {
            self.memory
                .change(record.generation, |open| open.settled = record.span.end());
            if record.kind == Kind::Close {
                self.memory.forget(record.generation);
            }
        }
    }

    /// What the database knows of its only file.
    pub(super) fn stored(&self) -> FileIdentity {
        let open = self.memory.open();
        assert_eq!(open.len(), 1);
        match &open[0].origin {
            Origin::File(identity) => identity.clone(),
            Origin::Sensor => panic!("a sensor among files"),
        }
    }

    /// Files that this process holds open below the rig's folder.
    pub(super) fn open_files(&self) -> usize {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
        targets
            .filter(|target| target.starts_with(self.folder.path()))
            .count()
    }

    /// How many of them have no name any more.
    pub(super) fn open_deleted(&self) -> usize {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
        targets
            .filter(|target| target.starts_with(self.folder.path()))
            .filter(|target| {
                target
                    .as_os_str()
                    .as_encoded_bytes()
                    .ends_with(b" (deleted)")
            })
            .count()
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        self.running.as_ref().unwrap().0.desk.chunk.len()
    }
}

/// Lines out of pieces, of each generation by itself, in the order of their last piece.
fn join(records: &[Given]) -> Vec<String> {
    let mut open: BTreeMap<Generation, String> = BTreeMap::new();
    let mut lines = Vec::new();
    for record in records.iter().filter(|record| record.kind == Kind::Data) {
        let line = open.entry(record.generation).or_default();
        line.push_str(&record.message);
        if !record.continues {
            lines.push(std::mem::take(line));
        }
    }
    lines
}
