//! Several captures as one, by time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::capture_file::CaptureFile;
use super::{Frame, SourceError};

/// Captures that are read side by side. Frames of the same time come in the order of the files.
pub(crate) struct Merge {
    files: Vec<CaptureFile>,
    /// The file whose frame was handed out last.
    current: Option<usize>,
    problems: Vec<SourceError>,
}

impl Merge {
    /// Opens the files. Those that cannot be read are named by [`Merge::problems`], the others are used.
    pub(crate) fn open(paths: &[PathBuf], progress: &Arc<AtomicU64>) -> Merge {
        let (mut files, mut problems) = (Vec::new(), Vec::new());
        for path in paths {
            let opened = CaptureFile::open(path, progress).and_then(|mut file| Ok((file.advance()?, file)));
            match opened {
                Ok((true, file)) => files.push(file),
                Ok((false, _)) => {}
                Err(problem) => problems.push(problem),
            }
        }
        Merge { files, current: None, problems }
    }

    /// The next frame of all files.
    pub(crate) fn next_frame(&mut self) -> Option<Frame<'_>> {
        if let Some(index) = self.current.take() {
            match self.files[index].advance() {
                Ok(true) => {}
                Ok(false) => drop(self.files.remove(index)),
                Err(problem) => {
                    self.problems.push(problem);
                    self.files.remove(index);
                }
            }
        }
        let earliest = self.files.iter().enumerate().min_by_key(|(index, file)| (file.frame().at, *index));
        let (index, _) = earliest?;
        self.current = Some(index);
        Some(self.files[index].frame())
    }

    /// What was wrong with the files, so far.
    pub(crate) fn problems(&mut self) -> Vec<SourceError> {
        std::mem::take(&mut self.problems)
    }
}
