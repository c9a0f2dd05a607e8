//! [`Copies`]: what is wanted in several places is made once and then copied, which costs no decoding.

use crate::{
    archive::{self, Job, Placing},
    error::Result,
    fetch::Staged,
    fs::{self, Staging},
    stream::BlockingReader,
};

/// A placing, and where in the request's list it is.
#[derive(Debug, PartialEq)]
pub(super) struct Copies {
    pub(super) placing: Placing,
    pub(super) positions: Vec<usize>,
}

impl Copies {
    /// Returns all placings that are different.
    pub(super) fn of(placings: &[Placing]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (position, placing) in placings.iter().enumerate() {
            match all.iter_mut().find(|known| known.placing == *placing) {
                Some(known) => known.positions.push(position),
                None => all.push(Self {
                    placing: placing.clone(),
                    positions: vec![position],
                }),
            }
        }
        all
    }

    /// Takes content to its end, places it in the job's directory, and copies that as often as it is wanted. Each of
    /// them is returned with its position.
    ///
    /// # Errors
    /// Those of [`archive::place`]; nothing that was made is left.
    pub(super) fn make(
        &self,
        reader: BlockingReader,
        job: &Job,
        staging: &Staging,
    ) -> Result<Vec<(usize, Staged)>> {
        let mut directories = vec![job.directory.clone()];
        let made = archive::place(reader, job).and_then(|outcome| {
            for _ in 1..self.positions.len() {
                let copy = staging.fresh()?;
                directories.push(copy.clone());
                fs::copy_tree(&job.directory, &copy)?;
            }
            Ok(outcome)
        });
        match made {
            Ok(mut outcome) => {
                let staged = directories.into_iter().map(|directory| Staged {
                    directory,
                    // The first copy has them all.
                    warnings: std::mem::take(&mut outcome.warnings),
                    unpacked: outcome.unpacked,
                });
                Ok(self.positions.iter().copied().zip(staged).collect())
            }
            Err(err) => {
                for directory in directories {
                    // What cannot be removed now goes with the staging area.
                    let _ = fs::remove_tree(&directory);
                }
                Err(err)
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
mod tests {
    use super::Copies;
    use crate::{
        archive::{Job, Limits, Placing, Repack},
        fs::Staging,
        stream::bridge::pipe,
    };
    use futures::FutureExt;
    use std::fs;

    #[test]
    fn what_is_wanted_several_times_is_made_once() {
        let repack = Placing::Repack(Repack::default());
        let placings = [
            Placing::Extract,
            Placing::Keep,
            Placing::Extract,
            repack.clone(),
            Placing::Keep,
        ];
        let copies = |placing: &Placing, positions: &[usize]| Copies {
            placing: placing.clone(),
            positions: positions.to_vec(),
        };
        let expected = [
            copies(&Placing::Extract, &[0, 2]),
            copies(&Placing::Keep, &[1, 4]),
            copies(&repack, &[3]),
        ];
        assert_eq!(Copies::of(&placings), expected);
    }

    #[test]
    fn all_copies_are_made_or_none() {
        let temp = tempfile::tempdir().unwrap();
        let staging = Staging::inside(temp.path()).unwrap();
        for whole in [true, false] {
            let (feeder, reader) = pipe(2);
            feeder
                .data("content".into())
                .now_or_never()
                .unwrap()
                .unwrap();
            if whole {
                feeder.end().now_or_never().unwrap();
            } else {
                drop(feeder);
            }
            let job = Job {
                directory: staging.fresh().unwrap(),
                file_name: "name".into(),
                placing: Placing::Keep,
                limits: Limits::default(),
            };
            let copies = &Copies::of(&[Placing::Keep, Placing::Keep])[0];
            let made = copies.make(reader, &job, &staging);
            if whole {
                let made = made.unwrap();
                let positions: Vec<usize> = made.iter().map(|(position, _)| *position).collect();
                assert_eq!(positions, [0, 1]);
                assert_ne!(made[0].1.directory, made[1].1.directory);
                for (_, staged) in made {
                    let content = fs::read_to_string(staged.directory.join("name"));
                    assert_eq!(content.unwrap(), "content");
                }
            } else {
                assert!(made.is_err());
                assert!(!job.directory.exists());
            }
        }
    }
}
