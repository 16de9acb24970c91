//! Blocks compressed on several threads and written in order. The bytes do not depend on how many threads there are.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;

use crate::oci::layer::blob::BlobFile;
use crate::oci::layer::block::Block;
use crate::oci::layer::block::Encoder;
use crate::oci::layer::block::Shape;

/// Takes full blocks. Threads are started with the second block: a small layer needs none.
pub(super) struct Blocks {
    shape: Shape,
    threads: usize,
    next_place: u64,
    dictionary: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Inline(BlobFile),
    Threads(Threads),
    Stopped,
}

struct Threads {
    free: Receiver<Block>,
    work: Sender<Block>,
    workers: Vec<JoinHandle<()>>,
    writer: JoinHandle<io::Result<BlobFile>>,
}

impl Blocks {
    pub(super) fn new(shape: Shape, threads: usize, blob: BlobFile) -> Self {
        let stage = Stage::Inline(blob);
        Self {
            shape,
            threads: threads.clamp(1, 64),
            next_place: 0,
            dictionary: Vec::new(),
            stage,
        }
    }

    pub(super) fn block_bytes(&self) -> usize {
        self.shape.block_bytes()
    }

    /// Takes a full block and leaves an empty buffer in its place.
    pub(super) fn push(&mut self, input: &mut Vec<u8>) -> io::Result<()> {
        if let Stage::Inline(_) = self.stage {
            let Stage::Inline(blob) = std::mem::replace(&mut self.stage, Stage::Stopped) else {
                return Err(stopped());
            };
            self.stage = Stage::Threads(start(self.shape, self.threads, blob)?);
        }
        self.send(input, false)
    }

    /// Takes the rest, which may be empty, and ends the blob.
    pub(super) fn finish(mut self, mut rest: Vec<u8>) -> io::Result<BlobFile> {
        // A stream in one member ends with a block, even an empty one; members must not be empty.
        let is_needed =
            !rest.is_empty() || self.next_place == 0 || matches!(self.shape, Shape::Single { .. });
        if let Stage::Inline(_) = self.stage {
            let Stage::Inline(mut blob) = self.stage else {
                return Err(stopped());
            };
            let mut block = Block {
                is_last: true,
                input: rest,
                ..Block::default()
            };
            self.shape.encoder()?.encode(&mut block)?;
            blob.write_block(self.shape, &block)?;
            return Ok(blob);
        }
        let sent = if is_needed {
            self.send(&mut rest, true)
        } else {
            Ok(())
        };
        let blob = self.join()?;
        sent.map(|()| blob)
    }

    /// Ends the threads and says why they stopped, if it was not because all was done.
    pub(super) fn join(&mut self) -> io::Result<BlobFile> {
        let threads = match std::mem::replace(&mut self.stage, Stage::Stopped) {
            Stage::Inline(blob) => return Ok(blob),
            Stage::Stopped => return Err(stopped()),
            Stage::Threads(threads) => threads,
        };
        drop(threads.work);
        drop(threads.free);
        let blob = threads.writer.join().unwrap_or_else(|_| Err(stopped()));
        let mut outcome = Ok(());
        for worker in threads.workers {
            outcome = outcome.and(worker.join().map_err(|_| stopped()));
        }
        blob.and_then(|blob| outcome.map(|()| blob))
    }

    fn send(&mut self, input: &mut Vec<u8>, is_last: bool) -> io::Result<()> {
        let Stage::Threads(threads) = &self.stage else {
            return Err(stopped());
        };
        let mut block = threads.free.recv().map_err(|_| stopped())?;
        block.place = self.next_place;
        block.is_last = is_last;
        std::mem::swap(&mut block.dictionary, &mut self.dictionary);
        self.shape.keep_dictionary(input, &mut self.dictionary);
        std::mem::swap(&mut block.input, input);
        input.clear();
        self.next_place += 1;
        threads.work.send(block).map_err(|_| stopped())
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the compression has stopped")
}

fn start(shape: Shape, threads: usize, blob: BlobFile) -> io::Result<Threads> {
    // Every block in flight is one of these, so this bounds the memory of a layer.
    let blocks = 2 * threads + 2;
    let (free_sender, free) = crossbeam_channel::bounded(blocks);
    let (work, work_receiver) = crossbeam_channel::bounded::<Block>(blocks);
    let (done_sender, done) = crossbeam_channel::bounded(blocks);
    for _ in 0..blocks {
        let input = Vec::with_capacity(shape.block_bytes());
        free_sender
            .send(Block {
                input,
                ..Block::default()
            })
            .map_err(|_| stopped())?;
    }
    let named = |name: &str| thread::Builder::new().name(name.to_owned());
    let writer = named("blob-writer").spawn(move || write_in_order(shape, blob, &done, &free_sender))?;
    let mut workers = Vec::with_capacity(threads);
    for _ in 0..threads {
        let (work, done, encoder) = (work_receiver.clone(), done_sender.clone(), shape.encoder()?);
        workers.push(named("compress").spawn(move || compress(encoder, &work, &done))?);
    }
    Ok(Threads {
        free,
        work,
        workers,
        writer,
    })
}

/// An error goes to the writer, which ends and so ends everything.
fn compress(mut encoder: Encoder, work: &Receiver<Block>, done: &Sender<io::Result<Block>>) {
    for mut block in work {
        let compressed = encoder.encode(&mut block).map(|()| block);
        // The writer is gone only after an error of its own, which it reports itself.
        if done.send(compressed).is_err() {
            break;
        }
    }
}

fn write_in_order(
    shape: Shape,
    mut blob: BlobFile,
    done: &Receiver<io::Result<Block>>,
    free: &Sender<Block>,
) -> io::Result<BlobFile> {
    let mut waiting = BTreeMap::new();
    let mut next_place = 0;
    for block in done {
        let block = block?;
        waiting.insert(block.place, block);
        while let Some(block) = waiting.remove(&next_place) {
            blob.write_block(shape, &block)?;
            next_place += 1;
            // The producer may have ended already; its blocks are then not wanted back.
            let _ended = free.send(block);
        }
    }
    Ok(blob)
}
