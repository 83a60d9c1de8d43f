//! Interned text: the one place where the names and values of labels are kept, each once.

use std::{
    cmp::Ordering,
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    ops::Deref,
    sync::LazyLock,
};

use arcstr::ArcStr;
use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::Mutex;
use triomphe::ThinArc;

/// A text that is kept once, however many hold it. One pointer wide; equality and hash are those of the pointer,
/// order is that of the text. It is forgotten some time after the last holder is gone.
#[derive(Clone)]
pub struct Symbol(ArcStr);

/// The names of a label set, sorted. Kept once, like symbols: equality and hash are those of the pointer.
#[derive(Clone)]
pub struct Shape(ThinArc<(), Symbol>);

/// Threads that intern at once rarely meet in one of these.
const SHARDS: usize = 64;

/// A shard is looked through for what nobody holds any more when it has twice as many as after the last time, and
/// at least this many.
const SWEEP_AT_LEAST: usize = 256;

struct Interner<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
    hasher: DefaultHashBuilder,
}

struct Shard<T> {
    known: HashTable<T>,
    sweep_at: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Interner<T> {
        let shard = |_| Mutex::new(Shard { known: HashTable::new(), sweep_at: SWEEP_AT_LEAST });
        Interner { shards: std::array::from_fn(shard), hasher: DefaultHashBuilder::default() }
    }
}

impl<T: Clone> Interner<T> {
    /// `content` is what the hash is of, and `is_held` whether anyone but the interner has it.
    fn intern<K: Hash + Eq + ?Sized>(
        &self,
        key: &K,
        content: impl Fn(&T) -> &K,
        is_held: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> T {
        let hash = self.hasher.hash_one(key);
        // The table takes its bits from both ends.
        let Some(shard) = self.shards.get((hash >> 32) as usize % SHARDS) else { return make() };
        let mut shard = shard.lock();
        if let Some(known) = shard.known.find(hash, |known| content(known) == key) {
            return known.clone();
        }
        if shard.known.len() >= shard.sweep_at {
            // A reference can only be had from another one or under this lock, so the count is final.
            shard.known.retain(|known| is_held(known));
            shard.sweep_at = (2 * shard.known.len()).max(SWEEP_AT_LEAST);
            shard.known.shrink_to(0, |known| self.hasher.hash_one(content(known)));
        }
        let made = make();
        shard.known.insert_unique(hash, made.clone(), |known| self.hasher.hash_one(content(known)));
        made
    }
}

impl Symbol {
    pub fn new(text: &str) -> Symbol {
        static SYMBOLS: LazyLock<Interner<ArcStr>> = LazyLock::new(Interner::default);
        Symbol(SYMBOLS.intern(
            text,
            |known| known.as_str(),
            |known| ArcStr::strong_count(known) != Some(1),
            || ArcStr::from(text),
        ))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells symbols apart for as long as they are held.
    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }
}

impl Shape {
    /// Names must be sorted, none twice.
    pub(crate) fn new(names: &[Symbol]) -> Shape {
        static SHAPES: LazyLock<Interner<ThinArc<(), Symbol>>> = LazyLock::new(Interner::default);
        Shape(SHAPES.intern(
            names,
            |known| &known.slice,
            |known| ThinArc::strong_count(known) != 1,
            || ThinArc::from_header_and_iter((), names.iter().cloned()),
        ))
    }

    pub fn names(&self) -> &[Symbol] {
        &self.0.slice
    }

    /// Where a label is among the values of a label set of this shape.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names().binary_search_by(|known| known.as_str().cmp(name)).ok()
    }
}

impl Deref for Symbol {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Symbol {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Symbol {
    fn eq(&self, other: &Symbol) -> bool {
        self.address() == other.address()
    }
}

impl Eq for Symbol {}

impl Hash for Symbol {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.address());
    }
}

impl PartialOrd for Symbol {
    fn partial_cmp(&self, other: &Symbol) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Symbol {
    fn cmp(&self, other: &Symbol) -> Ordering {
        if self == other { Ordering::Equal } else { self.as_str().cmp(other.as_str()) }
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.names(), f)
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Shape) -> bool {
        self.0.ptr() == other.0.ptr()
    }
}

impl Eq for Shape {}

impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.names().as_ptr() as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_symbol_and_order_is_that_of_the_text() {
        let text = String::from("reviews-v1");
        assert_eq!(Symbol::new("reviews-v1"), Symbol::new(&text));
        assert_ne!(Symbol::new("reviews-v1"), Symbol::new("reviews-v2"));
        assert!(Symbol::new("b") > Symbol::new("a"));
        assert_eq!(Symbol::new(""), Symbol::new(&text[..0]));
        let names = ["a", "b"].map(Symbol::new);
        let shape = Shape::new(&names);
        assert_eq!(shape, Shape::new(&names));
        assert_eq!((shape.position("b"), shape.position("c")), (Some(1), None));
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let interner: Interner<ArcStr> = Interner::default();
        let intern = |text: &str| {
            let is_held = |known: &ArcStr| ArcStr::strong_count(known) != Some(1);
            interner.intern(text, |known| known.as_str(), is_held, || ArcStr::from(text))
        };
        let held = intern("held");
        for number in 0..200_000 {
            intern(&number.to_string());
        }
        let kept: usize = interner.shards.iter().map(|shard| shard.lock().known.len()).sum();
        assert!(kept <= SHARDS * SWEEP_AT_LEAST, "{kept}");
        assert_eq!(held.as_ptr(), intern("held").as_ptr());
    }
}
