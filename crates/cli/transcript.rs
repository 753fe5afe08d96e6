//! What was printed and logged, for monitors that want it. Nothing is kept unless one does.

use std::io::{self, Write};

use parking_lot::Mutex;

/// Most that is kept, bytes; of more the end.
const BYTES_MAX: usize = 512 << 10;

/// `None` until somebody wants it.
static TEXT: Mutex<Option<String>> = Mutex::new(None);

/// Keeps what comes from now on.
pub(crate) fn begin() {
    with(|text| *text = Some(String::new()));
}

/// What was kept.
pub(crate) fn text() -> String {
    let mut copy = String::new();
    with(|text| copy = text.clone().unwrap_or_default());
    copy
}

/// Keeps `more`.
pub(crate) fn add(more: &str) {
    with(|text| {
        let Some(text) = text else { return };
        text.push_str(more);
        if text.len() > 2 * BYTES_MAX {
            let start = text.ceil_char_boundary(text.len() - BYTES_MAX);
            text.drain(..start);
        }
    });
}

fn with(work: impl FnOnce(&mut Option<String>)) {
    // A panic elsewhere leaves a text that is as good.
    work(&mut TEXT.lock());
}

/// Standard error, of which a copy is kept.
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = io::stderr().write(bytes)?;
        add(&String::from_utf8_lossy(&bytes[..count]));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
