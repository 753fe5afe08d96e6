//! The body of an entry: a reader that is watched on its way, and whose end is told to the source.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::{Error, Result};

/// Looks at the bytes of a body as they pass.
pub(crate) trait Inspect: Send + 'static {
    /// Looks at the next bytes. An error ends the dump at once.
    fn inspect(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Counts bytes.
#[derive(Debug, Default)]
pub(crate) struct ByteCount(pub(crate) u64);

impl Inspect for ByteCount {
    fn inspect(&mut self, bytes: &[u8]) -> Result<()> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

/// Gives the inspector back once the body was read to its end, and never otherwise.
#[derive(Debug)]
pub(crate) struct BodyEnd<I>(Receiver<I>);

impl<I> BodyEnd<I> {
    /// The inspector; an error when the body of the entry `name` was not read to its end.
    pub(crate) fn take(&self, name: &str) -> Result<I> {
        self.0.try_recv().map_err(|_| Error::Incomplete {
            name: name.to_owned(),
            detail: "its stream was not read to the end".to_owned(),
        })
    }
}

struct Body<R, I> {
    reader: R,
    inspector: Option<I>,
    end: Sender<I>,
}

/// Joins a reader and its inspector.
pub(crate) fn body<R, I>(reader: R, inspector: I) -> (Box<dyn Read + Send>, BodyEnd<I>)
where
    R: Read + Send + 'static,
    I: Inspect,
{
    let (end, ended) = channel();
    (Box::new(Body { reader, inspector: Some(inspector), end }), BodyEnd(ended))
}

impl<R: Read, I: Inspect> Read for Body<R, I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count > 0 {
            if let Some(inspector) = &mut self.inspector {
                inspector.inspect(&buffer[..count]).map_err(Error::into_io)?;
            }
        } else if !buffer.is_empty()
            && let Some(inspector) = self.inspector.take()
        {
            // The source may be gone already; then nobody needs to know.
            let _ = self.end.send(inspector);
        }
        Ok(count)
    }
}
