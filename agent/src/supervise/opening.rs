//! Waits for the spool at start. A salvage takes its time, and a disk that is full, read-only or
//! locked may come back: neither is a reason not to start. Until then nothing is read or sent: no
//! file can be given a name that would survive.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use headwater_record::DeviceId;
use tokio::sync::mpsc;

use super::progress::salvaging;
use super::{Signals, StartError};
use crate::checkpoint::{Knowledge, OpenGeneration};
use crate::clock;
use crate::config::Plan;
use crate::delivery::backoff::{Backoff, Jitter};
use crate::discover::sizes::{BYTES_MAX, Sizes};
use crate::hardware;
use crate::spool::Reply;
use crate::spool::run::was_cut_off;
use crate::spool::salvage::Progress as Salvage;
use crate::spool::sealing::Keys;
use crate::spool::store::{Found, Present, REPLIES, Store};
use crate::systemd;

/// systemd hears READY after so long, though the spool is not open: it waits 90 s by default, and
/// then ends a start that may be a salvage of gigabytes.
const READY_AFTER: Duration = Duration::from_secs(30);
/// How often systemd hears that the start is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// Opens the spool; none where a signal ends the wait.
pub(super) async fn open(
    plan: &Plan,
    signals: &mut Signals,
) -> Result<Option<(Store, Found, mpsc::Receiver<Reply>)>, StartError> {
    let (mut backoff, mut jitter) = (Backoff::default(), Jitter::new(clock::wall_ms()));
    let (mut said, since) = (None, clock::monotonic());
    let cut_off = cut_off(plan);
    loop {
        let (reply, replies) = mpsc::channel(REPLIES);
        let keys = Keys::load(&plan.spool_keys)?;
        if let Some(key) = keys.current()
            && said.is_none()
        {
            tracing::info!(%key, "batches in the spool are sealed");
        }
        let present = Present {
            hardware: hardware::present(&plan.state_dir),
            cut_off: cut_off.clone(),
        };
        let to = (&plan.device, plan.spool.floors, keys, present);
        let (store, mut opening) =
            Store::start(&plan.state_dir, to, reply).map_err(|source| StartError::Thread {
                thread: "store",
                source,
            })?;
        let opened = loop {
            tokio::select! {
                opened = &mut opening => break opened,
                () = signals.told_to_stop() => return Ok(None),
                () = tokio::time::sleep(ALIVE_EVERY) => still_starting(since, store.salvage()),
            }
        };
        let error = match opened {
            Ok(Ok(found)) => {
                if let Some((other, open)) = of_another(&found.known, &plan.device) {
                    let device = &plan.device;
                    tracing::warn!(
                        "the state directory holds {open} files, sensors or journals of the device {other:?}, and this \
                         one is {device:?}: they are left as they are, and read anew under the new name; set device to the \
                         old one to go on with them"
                    );
                }
                return Ok(Some((store, found, replies)));
            }
            Ok(Err(error)) => error,
            // It panicked; its message is in the log.
            Err(_) => return Err(StartError::Store),
        };
        if !error.may_pass() {
            return Err(error.into());
        }
        let text = error.to_string();
        if said.as_ref() != Some(&text) {
            tracing::error!(
                "{text}; nothing is read or sent until it can be opened: it is tried again"
            );
            said = Some(text);
        }
        let wait = Duration::from_millis(backoff.next_ms(&mut jitter));
        tokio::select! {
            () = signals.told_to_stop() => return Ok(None),
            () = tokio::time::sleep(wait) => still_starting(since, None),
        }
    }
}

/// How much of what is open is another device's, and which one's: its name was changed, or what names it.
fn of_another(known: &Knowledge, device: &DeviceId) -> Option<(String, usize)> {
    let is_another = |open: &&OpenGeneration| open.stream.device() != device.as_str();
    let others = known.open.iter().filter(is_another);
    let first = others.clone().next()?.stream.device().to_owned();
    Some((first, others.count()))
}

/// How long files were early in this boot, where the last run was cut off with the boot before it.
fn cut_off(plan: &Plan) -> Option<Sizes> {
    let boot_id = clock::boot_id().filter(|id| was_cut_off(&plan.state_dir, id))?;
    let text = match File::open(&plan.boot_sizes) {
        Ok(file) => {
            let mut text = String::new();
            (file.take(BYTES_MAX).read_to_string(&mut text)).map(|_| text)
        }
        Err(error) => Err(error),
    };
    let text = text.unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(
                "cannot read {} (boot_sizes): {error}; what was sent of files since the last checkpoint is sent once more",
                plan.boot_sizes.display()
            );
        }
        String::new()
    });
    Some(Sizes::parse(&text, &boot_id))
}

fn still_starting(since: clock::Monotonic, salvage: Option<Salvage>) {
    if clock::monotonic().since(since) >= READY_AFTER {
        systemd::ready();
    }
    let waiting = || "waiting for the spool".to_owned();
    systemd::status(&salvage.map_or_else(waiting, salvaging));
    systemd::alive();
}

#[cfg(test)]
mod tests {
    use headwater_record::{Generation, StreamId};

    use super::*;
    use crate::checkpoint::Origin;

    #[test]
    fn what_is_open_of_another_device_is_told() {
        let of = |device: &str| OpenGeneration {
            generation: Generation(1),
            stream: StreamId::parse(&format!("{device}/s//log")).unwrap(),
            origin: Origin::Sensor,
            settled: 0,
            skip_to: None,
            cuts: Vec::new(),
            marker: None,
            earlier: Vec::new(),
            goes_on: None,
        };
        let known = Knowledge {
            open: vec![of("pi-7"), of("0123"), of("0123")],
            ..Knowledge::default()
        };
        let told = |device: &str| of_another(&known, &device.parse().unwrap());
        assert_eq!(told("pi-7"), Some(("0123".to_owned(), 2)));
        assert_eq!(told("0123"), Some(("pi-7".to_owned(), 1)));
        assert_eq!(
            of_another(&Knowledge::default(), &"d".parse().unwrap()),
            None
        );
    }
}
