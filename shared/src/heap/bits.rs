//! A set of small numbers that gives the least of them first.

/// Numbers below `64 * WORDS`; none where all is zero.
pub(super) struct Bits<const WORDS: usize> {
    /// No word before this one has a member.
    first: usize,
    words: [u64; WORDS],
}

// === impl Bits ===

impl<const WORDS: usize> Bits<WORDS> {
    /// Has all below `count`, and nothing else.
    pub(super) fn fill(&mut self, count: usize) {
        self.first = 0;
        for (index, word) in self.words.iter_mut().enumerate() {
            *word = match count.saturating_sub(index * 64) {
                0 => 0,
                rest @ 1..64 => (1 << rest) - 1,
                _ => u64::MAX,
            };
        }
    }

    /// The least member.
    #[inline]
    pub(super) fn least(&mut self) -> Option<usize> {
        while let Some(word) = self.words.get(self.first) {
            if *word != 0 {
                return Some(self.first * 64 + word.trailing_zeros() as usize);
            }
            self.first += 1;
        }
        None
    }

    /// The least member, which is none from now on.
    #[inline]
    pub(super) fn take_least(&mut self) -> Option<usize> {
        let least = self.least()?;
        self.remove(least);
        Some(least)
    }

    #[inline]
    pub(super) fn insert(&mut self, member: usize) {
        let index = member / 64;
        if let Some(word) = self.words.get_mut(index) {
            *word |= 1 << (member % 64);
            self.first = self.first.min(index);
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, member: usize) {
        if let Some(word) = self.words.get_mut(member / 64) {
            *word &= !(1 << (member % 64));
        }
    }
}

#[cfg(test)]
mod tests;
