//! A log of 30 records over two segments, damaged exhaustively: every bit flipped, every file cut to
//! every length, every sector zeroed, every pair of sectors swapped, every older file restored. See
//! [`super::damage_log`] for the log and the checker.
//!
//! Each test prints how many trials ended how.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stampede_persist::log::verify::verify_on;

use super::damage_log::{
    Image, Outcome, Plan, RECORDS, SECTOR, Written, control, disk_with, groups, judge, open, segment, write,
};
use super::log_sale::DIR;

/// How many trials ended how.
#[derive(Default, Clone, Copy)]
struct Tally {
    whole: usize,
    refused: usize,
    cut: usize,
}

impl Tally {
    fn all(self) -> usize {
        self.whole + self.refused + self.cut
    }
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Whole => self.whole += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Cut => self.cut += 1,
        }
    }
    /// Prints a line past the test harness, which shows only what a red test prints.
    fn print(self, shape: &str, what: &str) -> Self {
        assert!(self.all() > 0, "{shape}: no {what} were tried");
        let Self { whole, refused, cut } = self;
        let line = format!(
            "damage: {shape:<24} {what:<28} {:>7} trials: {whole:>7} whole, {refused:>7} refused, {cut:>4} cut\n",
            self.all()
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        self
    }
}

/// A trial: a damaged image and what was done to it.
type Trial = (Image, String);

/// Runs the trials with these numbers on two threads.
fn run(intact: &Image, trials: usize, make: &(dyn Fn(usize) -> Trial + Sync)) -> Tally {
    const BATCH: usize = 256;
    let next = AtomicUsize::new(0);
    let work = || {
        let mut tally = Tally::default();
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            if from >= trials {
                return tally;
            }
            for number in from..(from + BATCH).min(trials) {
                let (image, what) = make(number);
                tally.add(judge(intact, &image, &|| what.clone()));
            }
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut tally = work();
        let other = other.join().unwrap();
        tally.whole += other.whole;
        tally.refused += other.refused;
        tally.cut += other.cut;
        tally
    })
}

fn changed(image: &Image, file: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Image {
    let mut image = image.clone();
    let mut bytes = image[file].to_vec();
    change(&mut bytes);
    image.insert(file.to_owned(), Arc::new(bytes));
    image
}

/// Flips every bit of a file, or one of `step`.
fn flips(intact: &Image, file: &Path, step: usize) -> Tally {
    let bits = intact[file].len() * 8;
    run(intact, bits / step, &|number| {
        // Another place in each run of bits, so that all places of a byte come up.
        let bit = number * step + number % step;
        let image = changed(intact, file, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        (image, format!("bit {} of byte {} of {}", bit % 8, bit / 8, file.display()))
    })
}

fn shapes() -> [(&'static str, Plan); 5] {
    let plan = Plan::default();
    [
        ("killed", plan),
        ("killed, settled before", Plan { settled: true, ..plan }),
        ("killed, with a snapshot", Plan { snapshot: true, ..plan }),
        ("ended in order", Plan { clean: true, ..plan }),
        ("ended, log trimmed", Plan { clean: true, trimmed: true, ..plan }),
    ]
}

fn log_files(image: &Image) -> Vec<PathBuf> {
    image.keys().filter(|path| path.starts_with("/data/log")).cloned().collect()
}

/// Every file but the spares, in which nothing was ever written.
fn used_files(image: &Image) -> Vec<PathBuf> {
    image.keys().filter(|path| image[*path].iter().any(|byte| *byte != 0)).cloned().collect()
}

#[test]
fn the_log_has_the_shape_that_is_drawn() {
    let image = write(&Plan::default()).image().clone();
    let found: Vec<_> =
        groups(&image).iter().map(|g| (g.segment, g.offset / SECTOR, g.len / SECTOR)).collect();
    let first = [(1, 0, 1), (1, 1, 2), (1, 3, 1), (1, 4, 1), (1, 5, 1), (1, 6, 1), (1, 7, 1)];
    let second = [(2, 0, 1), (2, 1, 2)];
    assert_eq!(found, [&first[..], &second[..]].concat());
    for (name, plan) in shapes() {
        let image = write(&plan).image().clone();
        assert_eq!(open(&disk_with(&image)).unwrap().0.lsn, RECORDS, "{name}");
    }
}

#[test]
fn every_bit_of_a_killed_engines_log() {
    let intact = write(&Plan::default()).image().clone();
    for file in [segment(1), segment(2), control()] {
        let tally = flips(&intact, &file, 1).print("killed", &name_of(&file, "bits"));
        assert_eq!(tally.cut, 0, "a flipped bit is never taken for a torn tail");
        assert!(tally.refused > 0 || file == control(), "{}", file.display());
    }
}

#[test]
fn bits_of_the_other_shapes() {
    for (name, plan) in &shapes()[1..] {
        let intact = write(plan).image().clone();
        for file in used_files(&intact) {
            // All bits of what the shape adds, one of three bytes of what all have in common.
            let shared = [segment(1), segment(2), control()].contains(&file);
            let step = if shared { 24 } else { 1 };
            let tally = flips(&intact, &file, step).print(name, &name_of(&file, "bits"));
            assert_eq!(tally.cut, 0, "a flipped bit is never taken for a torn tail");
        }
    }
    let intact = write(&Plan::default()).image().clone();
    let tally = flips(&intact, &segment(3), 24).print("killed", "bits of a spare");
    assert_eq!(tally.refused + tally.cut, 0, "nothing was ever written there");
}

fn name_of(file: &Path, what: &str) -> String {
    format!("{what} of {}", file.file_name().unwrap().to_str().unwrap().trim_start_matches('0'))
}

#[test]
fn every_length() {
    for (name, plan) in shapes() {
        let intact = write(&plan).image().clone();
        let mut tally = Tally::default();
        for file in intact.keys() {
            let is_spare = intact[file].iter().all(|byte| *byte == 0);
            let step = if name == "killed" && !is_spare { 1 } else { 61 };
            let lens = intact[file].len() / step;
            let part = run(&intact, lens, &|number| {
                let len = number * step;
                let image = changed(&intact, file, |bytes| bytes.truncate(len));
                (image, format!("{} cut to {len} bytes", file.display()))
            });
            assert_eq!(part.cut, 0, "{}", file.display());
            tally.whole += part.whole;
            tally.refused += part.refused;
        }
        tally.print(name, "truncations");
    }
}

#[test]
fn every_sector_zeroed_and_every_pair_swapped() {
    for (name, plan) in shapes() {
        let intact = write(&plan).image().clone();
        let mut zeroed = Tally::default();
        let mut places = Vec::new();
        for file in intact.keys() {
            for at in (0..intact[file].len() / SECTOR).map(|sector| sector * SECTOR) {
                let image = changed(&intact, file, |bytes| bytes[at..at + SECTOR].fill(0));
                zeroed.add(judge(&intact, &image, &|| format!("{} at {at} zeroed", file.display())));
                places.push((file, at));
            }
        }
        zeroed.print(name, "sectors zeroed");
        let pairs: Vec<_> = (0..places.len()).flat_map(|b| (0..b).map(move |a| (a, b))).collect();
        run(&intact, pairs.len(), &|number| {
            let ((one, at), (other, to)) = (places[pairs[number].0], places[pairs[number].1]);
            let first = intact[one][at..at + SECTOR].to_vec();
            let second = intact[other][to..to + SECTOR].to_vec();
            let image = changed(&intact, one, |bytes| bytes[at..at + SECTOR].copy_from_slice(&second));
            let image = changed(&image, other, |bytes| bytes[to..to + SECTOR].copy_from_slice(&first));
            (image, format!("{} at {at} swapped with {} at {to}", one.display(), other.display()))
        })
        .print(name, "pairs of sectors swapped");
    }
}

/// Puts a file of another image in the place of one of this.
fn put(intact: &Image, file: &Path, from: &Image, other: &Path) -> Option<Trial> {
    let bytes = from.get(other)?;
    let mut image = intact.clone();
    image.insert(file.to_owned(), Arc::clone(bytes));
    Some((image, format!("{} in the place of {}", other.display(), file.display())))
}

fn try_all(intact: &Image, trials: impl Iterator<Item = Trial>) -> Tally {
    let mut tally = Tally::default();
    trials.for_each(|(image, what)| tally.add(judge(intact, &image, &|| what.clone())));
    tally
}

#[test]
fn every_older_file_put_back() {
    for (name, plan) in shapes() {
        let Written { history } = write(&plan);
        let intact = history.last().unwrap();
        let each = |file: PathBuf| {
            let back = move |image| put(intact, &file, image, &file);
            try_all(intact, history.iter().filter_map(back))
        };
        each(segment(1)).print(name, "older first segments");
        each(segment(2)).print(name, "older last segments");
        each(control()).print(name, "older control files");
    }
}

#[test]
fn files_of_other_places_and_other_logs() {
    for (name, plan) in shapes() {
        let intact = write(&plan).image().clone();
        let files = log_files(&intact);
        let pairs = files.iter().flat_map(|a| files.iter().map(move |b| (a, b)));
        let moved = pairs.filter(|(a, b)| a != b).filter_map(|(a, b)| put(&intact, a, &intact, b));
        try_all(&intact, moved).print(name, "segments under other numbers");
        for (what, other) in [
            ("files of another log", Plan { other_log: true, ..plan }),
            ("files of another history", Plan { branch: 1, ..plan }),
        ] {
            let other = write(&other).image().clone();
            let trials = intact.keys().filter_map(|file| put(&intact, file, &other, file));
            try_all(&intact, trials).print(name, what);
        }
        let removed = intact.keys().map(|file| {
            let mut image = intact.clone();
            image.remove(file);
            (image, format!("{} removed", file.display()))
        });
        try_all(&intact, removed).print(name, "files removed");
    }
}

#[test]
fn verify_names_the_same_places() {
    let intact = write(&Plan::default()).image().clone();
    let mut wrong = 0;
    for (file, sectors) in [(segment(1), 8), (segment(2), 3)] {
        // A bit of the header, of the records and of the padding of each sector.
        for at in (0..sectors * 4).map(|n| n * SECTOR / 4 + 17) {
            let disk = disk_with(&changed(&intact, &file, |bytes| bytes[at] ^= 1));
            let refused = open(&disk).map(drop).unwrap_err();
            let found = verify_on(&disk, DIR.as_ref()).unwrap().wrong;
            let found =
                found.unwrap_or_else(|| panic!("verify does not see byte {at} of {}", file.display()));
            assert!(
                found.file == file && refused.contains(&format!("byte {}", found.offset)),
                "{refused}; {found}"
            );
            wrong += 1;
        }
    }
    assert_eq!(wrong, 44);
}
