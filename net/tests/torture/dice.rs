//! Random numbers from a seed: the same seed gives the same schedule.

/// A stream of random numbers (SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom
/// number generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from `from` to `to`, both inclusive.
    pub(crate) const fn among(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }

    /// One of these.
    pub(crate) const fn pick<T: Copy>(&mut self, these: &[T]) -> T {
        these[(self.next() % these.len() as u64) as usize]
    }

    /// These in a random order.
    pub(crate) fn shuffle<T>(&mut self, these: &mut [T]) {
        for at in (1..these.len()).rev() {
            these.swap(at, self.among(0, at as u64) as usize);
        }
    }
}
