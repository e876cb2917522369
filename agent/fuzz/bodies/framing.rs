//! Any bytes, in any encoding, with any rule: framing never panics, accounts for every byte, and
//! gives the same records however the bytes were cut into chunks.

use headwater_agent::frame::encoding::Encoding;
use headwater_agent::frame::frames::{AtCut, Chunk, Frames, Framing};
use headwater_agent::frame::multiline::{Multiline, Preset};

const LABELS: [&str; 8] = [
    "utf-8",
    "utf-16",
    "utf-16be",
    "latin1",
    "shift_jis",
    "gb18030",
    "big5",
    "iso-2022-jp",
];

fn rule(choice: u8) -> Option<Multiline> {
    Some(match choice % 9 {
        0 => Multiline::Start("^[0-9]".parse().ok()?),
        1 => Multiline::Continue(r"^\s".parse().ok()?),
        2 => Multiline::End(";$".parse().ok()?),
        3 => Multiline::Preset(Preset::Java),
        4 => Multiline::Preset(Preset::Python),
        5 => Multiline::Preset(Preset::Go),
        6 => Multiline::Preset(Preset::Docker),
        7 => Multiline::Preset(Preset::Cri),
        _ => return None,
    })
}

/// Where the records end, read in chunks that grow by `step`.
fn ends(framing: &Framing, bytes: &[u8], step: usize) -> Vec<u64> {
    let encoding = framing.encoding.resolve(bytes);
    let cuts = [bytes.len() as u64];
    let (mut ends, mut at, mut visible) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        visible = bytes.len().min(visible + step.max(1));
        loop {
            let end = visible.min(at + framing.chunk_bytes_max()).max(at);
            let over = bytes[end..visible].iter().position(|byte| *byte != 0);
            let over = over.map(|len| (end + len) as u64);
            let closed = (visible == bytes.len()).then_some(visible as u64);
            let chunk = Chunk {
                bytes: &bytes[at..end],
                start: at as u64,
                inside: encoding.is_inside(&bytes[..at]),
                nuls_until: over.or(closed).filter(|_| end < visible),
            };
            let mut frames = Frames::new(framing, encoding, chunk, &cuts);
            ends.extend(frames.by_ref().map(|frame| frame.end));
            let reached = usize::try_from(frames.offset()).expect("within the bytes");
            if reached == at {
                break;
            }
            at = reached;
        }
        assert!(
            visible < bytes.len() || at == bytes.len(),
            "bytes are left over"
        );
    }
    ends
}

pub(crate) fn run(bytes: &[u8]) {
    let [label, choice, step, bytes @ ..] = bytes else {
        return;
    };
    let framing = Framing {
        encoding: Encoding::parse(LABELS[usize::from(*label) % LABELS.len()]).expect("a label"),
        max_line: 64,
        multiline: rule(*choice),
        at_cut: AtCut::Complete,
    };
    let whole = ends(&framing, bytes, bytes.len());
    assert!(whole.is_sorted_by(|a, b| a < b));
    assert_eq!(whole, ends(&framing, bytes, usize::from(*step)));
}
