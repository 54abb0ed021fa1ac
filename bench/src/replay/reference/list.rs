//! Lists of numbered objects from oldest to newest, from the middle of which an object can be
//! taken. All lists of a cache share one table of neighbours, so an object is in one of them
//! at most.

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Neighbours {
    older: u32,
    newer: u32,
}

/// The neighbours of every object.
#[derive(Clone, Debug)]
pub(super) struct Links {
    of: Vec<Neighbours>,
}

impl Links {
    /// For objects numbered below `objects`.
    pub(super) fn new(objects: usize) -> Links {
        Links { of: vec![Neighbours { older: NONE, newer: NONE }; objects] }
    }
}

/// One list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    oldest: u32,
    newest: u32,
}

impl List {
    /// A list without objects.
    pub(super) const EMPTY: List = List { oldest: NONE, newest: NONE };

    /// The object that is there longest.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Adds an object, which is in no list.
    pub(super) fn push_newest(&mut self, links: &mut Links, object: u32) {
        links.of[object as usize] = Neighbours { older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = object,
            newest => links.of[newest as usize].newer = object,
        }
        self.newest = object;
    }

    /// Takes an object, which is in this list, out of it.
    pub(super) fn remove(&mut self, links: &mut Links, object: u32) {
        let Neighbours { older, newer } = links.of[object as usize];
        match older {
            NONE => self.oldest = newer,
            older => links.of[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => links.of[newer as usize].older = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_leave_from_any_place() {
        let mut links = Links::new(5);
        let mut list = List::EMPTY;
        assert_eq!(list.oldest(), None);
        for object in [3, 0, 4, 1] {
            list.push_newest(&mut links, object);
        }
        list.remove(&mut links, 0);
        list.remove(&mut links, 1);
        list.push_newest(&mut links, 0);
        let mut left = Vec::new();
        while let Some(object) = list.oldest() {
            list.remove(&mut links, object);
            left.push(object);
        }
        assert_eq!(left, [3, 4, 0]);
    }
}
