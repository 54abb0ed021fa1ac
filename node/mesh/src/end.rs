//! The mesh's ends: a lane to and from every peer, and the inbox.

use crossbeam_utils::CachePadded;

use crate::inbox::{Bits, Inbox, WORDS};
use crate::lane::{Consumer, Lane, Producer};
use crate::primitive::Arc;
use crate::{ENDS_MAX, LANE_SLOTS};

/// What all ends share.
struct Shared<T, const SLOTS: usize> {
    /// By sender, then by receiver without the sender itself.
    lanes: Box<[Lane<T, SLOTS>]>,
    inboxes: Box<[CachePadded<Inbox>]>,
}

impl<T, const SLOTS: usize> Shared<T, SLOTS> {
    #[inline]
    fn lane(&self, from: usize, to: usize) -> &Lane<T, SLOTS> {
        let peers = self.inboxes.len() - 1;
        &self.lanes[from * peers + to - usize::from(to > from)]
    }
}

/// Makes the ends of a mesh for mail of type `T`, at most [`crate::MAIL_BYTES_MAX`] bytes,
/// with lanes of `SLOTS` mails.
pub struct Mesh<T, const SLOTS: usize = LANE_SLOTS>(std::marker::PhantomData<T>);

impl<T: Send, const SLOTS: usize> Mesh<T, SLOTS> {
    /// A mesh of `count` ends, numbered in order.
    ///
    /// # Panics
    /// When `count` is above [`crate::ENDS_MAX`].
    pub fn ends(count: usize) -> Vec<End<T, SLOTS>> {
        assert!(count <= ENDS_MAX, "a mesh has at most {ENDS_MAX} ends");
        let shared = Arc::new(Shared {
            lanes: (0..count * count.saturating_sub(1)).map(|_| Lane::new()).collect(),
            inboxes: (0..count).map(|_| CachePadded::new(Inbox::new())).collect(),
        });
        (0..count)
            .map(|index| End {
                shared: Arc::clone(&shared),
                index,
                producers: (0..count).map(|_| Producer::default()).collect(),
                consumers: (0..count).map(|_| Consumer::default()).collect(),
                pending: [0; WORDS],
                untold: [0; WORDS],
                next: 0,
            })
            .collect()
    }

    /// Address space that a mesh of `count` ends takes, in bytes. Slots count, though memory
    /// is touched only as they are used.
    pub const fn bytes(count: usize) -> usize {
        let lane = size_of::<Lane<T, SLOTS>>() + SLOTS * crate::MAIL_BYTES_MAX;
        count * count.saturating_sub(1) * lane
            + count * size_of::<CachePadded<Inbox>>()
            + count * count * (size_of::<Producer>() + size_of::<Consumer>())
    }
}

/// What a sender has to do after its mail was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing: the peer is awake and will look, or somebody else was told to wake it.
    Awake,
    /// Wake the peer: it sleeps, and only this sender was told.
    WakePeer,
}

/// What a drain left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Nothing that had arrived.
    Empty,
    /// Mail beyond the limit; drain again before sleeping.
    More,
}

/// Whether an end may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleep {
    /// It may: whoever sends from now on is told to wake it. Call [`End::awake`] afterwards.
    Clear,
    /// It may not: there is mail. The end counts as awake.
    MailWaiting,
}

/// One end of a mesh, for one thread. Dropping it leaves its mail to the other ends'
/// memory; what nobody drained is dropped with the last end.
pub struct End<T, const SLOTS: usize = LANE_SLOTS> {
    shared: Arc<Shared<T, SLOTS>>,
    index: usize,
    /// By receiver; the one at `index` is unused.
    producers: Box<[Producer]>,
    /// By sender; the one at `index` is unused.
    consumers: Box<[Consumer]>,
    /// Senders whose bit was taken and whose lane was not drained to its end.
    pending: Bits,
    /// Receivers with mail that they were not told of.
    untold: Bits,
    /// The sender to begin with, so that a limit does not favour the first ones.
    next: usize,
}

impl<T: Send, const SLOTS: usize> End<T, SLOTS> {
    /// This end's number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many ends the mesh has.
    pub fn ends(&self) -> usize {
        self.shared.inboxes.len()
    }

    /// Puts mail into the lane to `to` and tells of it.
    ///
    /// # Errors
    /// The lane is full; the mail comes back.
    ///
    /// # Panics
    /// When `to` is this end itself or none at all.
    #[inline]
    pub fn send(&mut self, to: usize, mail: T) -> Result<Delivery, T> {
        self.write(to, mail)?;
        if self.shared.inboxes[to].tell(self.index) {
            Ok(Delivery::WakePeer)
        } else {
            Ok(Delivery::Awake)
        }
    }

    /// Puts mail into the lane to `to` without telling, which is most of the cost of
    /// [`End::send`] (16 mails at a time: 6 ns each instead of 20): for who sends several and
    /// then calls [`End::tell`] once. Until then the peer may or may not see them.
    ///
    /// # Errors
    /// The lane is full; the mail comes back.
    ///
    /// # Panics
    /// When `to` is this end itself or none at all.
    #[inline]
    pub fn post(&mut self, to: usize, mail: T) -> Result<(), T> {
        self.write(to, mail)?;
        self.untold[to / 64] |= 1 << (to % 64);
        Ok(())
    }

    /// Tells all peers of the mail posted since the last call. `wake` is called for those
    /// who sleep and whom nobody else wakes.
    #[inline]
    pub fn tell(&mut self, mut wake: impl FnMut(usize)) {
        for (word, bits) in self.untold.iter_mut().enumerate() {
            let mut left = std::mem::take(bits);
            while left != 0 {
                let to = word * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                if self.shared.inboxes[to].tell(self.index) {
                    wake(to);
                }
            }
        }
    }

    #[inline]
    fn write(&mut self, to: usize, mail: T) -> Result<(), T> {
        assert_ne!(to, self.index, "an end does not send to itself");
        let lane = self.shared.lane(self.index, to);
        // SAFETY: `Mesh::ends` made one end with this index, which is not `Clone`, and
        // `&mut self` makes this thread its only user: it is the lane's only producer, and
        // `producers[to]` has been its state from the start.
        unsafe { lane.write(&mut self.producers[to], mail) }
    }

    /// Hands at most `limit` mails to `each`, with the number of the sender; those of one
    /// sender in the order sent. Senders take turns in being first when the limit is hit.
    #[inline]
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(usize, T)) -> Drained {
        for (pending, taken) in self.pending.iter_mut().zip(self.shared.inboxes[self.index].take())
        {
            *pending |= taken;
        }
        let mut left = limit;
        while let Some(from) = self.next_pending() {
            let lane = self.shared.lane(from, self.index);
            let consumer = &mut self.consumers[from];
            lane.look(consumer);
            while left > 0 {
                // SAFETY: as in `write`: this end is the lane's only consumer, and
                // `consumers[from]` has been its state from the start.
                let Some(mail) = (unsafe { lane.read(consumer) }) else {
                    break;
                };
                left -= 1;
                each(from, mail);
            }
            if !consumer.has_read_all() {
                self.next = from + 1;
                return Drained::More;
            }
            self.pending[from / 64] &= !(1 << (from % 64));
        }
        Drained::Empty
    }

    /// Whether a drain would find mail. One look at two words, for an end that spins.
    #[inline]
    pub fn has_mail(&self) -> bool {
        self.pending != [0; WORDS] || self.shared.inboxes[self.index].has_mail()
    }

    /// To be called before blocking; see [`Sleep`].
    ///
    /// # Panics
    /// When mail was posted and not told of.
    pub fn prepare_sleep(&mut self) -> Sleep {
        assert_eq!(self.untold, [0; WORDS], "posted mail would wait for the sleep to end");
        if self.pending == [0; WORDS] && self.shared.inboxes[self.index].announce_sleep() {
            Sleep::Clear
        } else {
            Sleep::MailWaiting
        }
    }

    /// To be called after blocking, whatever ended it. Peers stop waking this end.
    #[inline]
    pub fn awake(&mut self) {
        self.shared.inboxes[self.index].awake();
    }

    /// The first pending sender at or after `next`, around the end.
    #[inline]
    fn next_pending(&self) -> Option<usize> {
        let first_from = |start: usize| {
            let mut word = start / 64;
            let mut bits = *self.pending.get(word)? & (u64::MAX << (start % 64));
            loop {
                if bits != 0 {
                    return Some(word * 64 + bits.trailing_zeros() as usize);
                }
                word += 1;
                bits = *self.pending.get(word)?;
            }
        };
        first_from(self.next).or_else(|| first_from(0))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex};
    use std::{array, thread};

    use super::*;

    fn drain_all(end: &mut End<u64>) -> Vec<(usize, u64)> {
        let mut mails = Vec::new();
        assert_eq!(end.drain(usize::MAX, |from, mail| mails.push((from, mail))), Drained::Empty);
        mails
    }

    #[test]
    fn mail_reaches_the_end_it_was_sent_to_and_no_other() {
        for count in [2, 3, 65, ENDS_MAX] {
            let mut ends = Mesh::<u64>::ends(count);
            for (from, end) in ends.iter_mut().enumerate() {
                for to in (0..count).filter(|to| *to != from) {
                    let mail = (from * 1000 + to) as u64;
                    assert_eq!(end.send(to, mail), Ok(Delivery::Awake));
                }
            }
            for (to, end) in ends.iter_mut().enumerate() {
                let expected: Vec<_> = (0..count)
                    .filter(|from| *from != to)
                    .map(|from| (from, (from * 1000 + to) as u64))
                    .collect();
                assert!(end.has_mail());
                assert_eq!(drain_all(end), expected);
                assert!(!end.has_mail());
            }
        }
    }

    #[test]
    fn a_full_lane_refuses_and_takes_again_after_a_drain() {
        let [mut a, mut b] = two_ends();
        for mail in 0..LANE_SLOTS as u64 {
            assert!(a.send(1, mail).is_ok());
        }
        assert_eq!(a.send(1, 999), Err(999));
        assert_eq!(b.drain(1, |_, mail| assert_eq!(mail, 0)), Drained::More);
        assert!(a.send(1, 999).is_ok());
        assert_eq!(drain_all(&mut b).len(), LANE_SLOTS);
    }

    #[test]
    fn one_sender_is_told_to_wake_a_sleeper() {
        let mut ends = Mesh::<u64>::ends(3);
        assert_eq!(ends[0].prepare_sleep(), Sleep::Clear);
        assert_eq!(ends[1].send(0, 1), Ok(Delivery::WakePeer));
        assert_eq!(ends[2].send(0, 2), Ok(Delivery::Awake));
        assert_eq!(ends[1].send(0, 3), Ok(Delivery::Awake));
        ends[0].awake();
        assert_eq!(ends[0].prepare_sleep(), Sleep::MailWaiting);
        assert_eq!(ends[1].send(0, 4), Ok(Delivery::Awake));
        assert_eq!(drain_all(&mut ends[0]), [(1, 1), (1, 3), (1, 4), (2, 2)]);
        assert_eq!(ends[0].prepare_sleep(), Sleep::Clear);
        ends[0].awake();
        assert_eq!(ends[2].send(0, 5), Ok(Delivery::Awake));
    }

    #[test]
    fn a_limit_leaves_mail_that_forbids_sleep_and_favours_nobody() {
        let mut ends = Mesh::<u64>::ends(3);
        for mail in 0..20 {
            ends[0].send(2, mail).unwrap();
            ends[1].send(2, mail).unwrap();
        }
        let mut senders = Vec::new();
        for _ in 0..4 {
            assert_eq!(ends[2].drain(5, |from, _| senders.push(from)), Drained::More);
            assert_eq!(ends[2].prepare_sleep(), Sleep::MailWaiting);
        }
        let expected: Vec<_> = [0, 1, 0, 1].iter().flat_map(|from| [*from; 5]).collect();
        assert_eq!(senders, expected);
        assert_eq!(drain_all(&mut ends[2]).len(), 20);
        assert_eq!(ends[2].prepare_sleep(), Sleep::Clear);
    }

    #[test]
    fn posted_mail_is_told_of_once() {
        let mut ends = Mesh::<u64>::ends(70);
        assert_eq!(ends[69].prepare_sleep(), Sleep::Clear);
        assert_eq!(ends[2].prepare_sleep(), Sleep::Clear);
        ends[2].awake();
        for to in [2, 69, 2, 69] {
            ends[1].post(to, 7).unwrap();
        }
        let mut woken = Vec::new();
        ends[1].tell(|to| woken.push(to));
        assert_eq!(woken, [69]);
        ends[1].tell(|_| panic!("there is no further mail"));
        assert_eq!(drain_all(&mut ends[69]), [(1, 7), (1, 7)]);
        assert_eq!(drain_all(&mut ends[2]), [(1, 7), (1, 7)]);
    }

    #[test]
    #[should_panic(expected = "does not send to itself")]
    fn an_end_does_not_send_to_itself() {
        let _ = Mesh::<u64>::ends(2)[1].send(1, 0);
    }

    #[test]
    fn undelivered_mail_is_dropped_once() {
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let drops = Arc::new(AtomicUsize::new(0));
        let mut ends = Mesh::<Counted>::ends(2);
        for _ in 0..300 {
            let _refused = ends[0].send(1, Counted(Arc::clone(&drops)));
        }
        assert_eq!(drops.load(Ordering::Relaxed), 300 - LANE_SLOTS);
        ends[1].drain(56, |_, mail| drop(mail));
        assert_eq!(drops.load(Ordering::Relaxed), 100);
        ends.remove(0);
        assert_eq!(drops.load(Ordering::Relaxed), 100, "mail outlives its sender");
        drop(ends);
        assert_eq!(drops.load(Ordering::Relaxed), 300);
    }

    #[test]
    fn a_panicking_receiver_drops_no_mail_twice() {
        let [mut a, mut b] = two_ends::<Box<u64>>();
        for mail in 0..3 {
            a.send(1, Box::new(mail)).unwrap();
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            b.drain(9, |_, mail| assert!(*mail == 0, "the second mail panics"))
        }));
        assert!(outcome.is_err());
        let mut rest = Vec::new();
        b.drain(9, |_, mail| rest.push(*mail));
        assert_eq!(rest, [2]);
    }

    #[test]
    fn ends_are_send_and_64_of_them_take_63_mebibytes() {
        fn is_send<T: Send>() {}
        is_send::<End<std::cell::Cell<u8>>>();
        assert!(Mesh::<[u8; 64]>::bytes(64) < 65 << 20);
    }

    fn two_ends<T: Send>() -> [End<T>; 2] {
        let mut ends = Mesh::<T>::ends(2).into_iter();
        array::from_fn(|_| ends.next().unwrap())
    }

    /// What an end sleeps in, as the binary's event descriptor: a wake before the sleep is
    /// not lost.
    #[derive(Default)]
    struct Bell {
        rung: Mutex<bool>,
        change: Condvar,
    }

    impl Bell {
        fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.change.notify_one();
        }

        fn wait(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.change.wait(rung).unwrap();
            }
            *rung = false;
        }
    }

    /// Small numbers from a seed (splitmix64; Steele, Lea, Flood 2014).
    struct Seeded(u64);

    impl Seeded {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % bound
        }
    }

    /// Every end sends a known number of mails to every other one, drains with odd limits
    /// and sleeps whenever it may. A lost wake-up hangs the test, a lost or doubled mail
    /// breaks the count or the order.
    #[test]
    fn nothing_is_lost_between_threads_that_sleep() {
        const ENDS: usize = 4;
        const MAILS: u64 = 8_000;
        let bells: Vec<Bell> = (0..ENDS).map(|_| Bell::default()).collect();
        thread::scope(|scope| {
            for (mut end, seed) in Mesh::<u64, 16>::ends(ENDS).into_iter().zip(1..) {
                let bells = &bells;
                scope.spawn(move || {
                    let me = end.index();
                    let mut random = Seeded(seed);
                    let mut sent = [0u64; ENDS];
                    let mut received = [0u64; ENDS];
                    sent[me] = MAILS;
                    received[me] = MAILS;
                    while sent.iter().chain(&received).any(|count| *count < MAILS) {
                        let to = random.below(ENDS as u64) as usize;
                        for _ in 0..random.below(24) {
                            if sent[to] == MAILS {
                                break;
                            }
                            match end.send(to, sent[to]) {
                                Ok(delivery) => {
                                    sent[to] += 1;
                                    if delivery == Delivery::WakePeer {
                                        bells[to].ring();
                                    }
                                }
                                // The peer may wait for room in our lane: drain first.
                                Err(_) => {
                                    thread::yield_now();
                                    break;
                                }
                            }
                        }
                        let limit = random.below(40) as usize;
                        end.drain(limit, |from, mail| {
                            assert_eq!(mail, received[from], "order of one sender");
                            received[from] += 1;
                        });
                        let all_sent = sent.iter().all(|count| *count == MAILS);
                        let done = received.iter().all(|count| *count == MAILS);
                        if all_sent && !done && end.prepare_sleep() == Sleep::Clear {
                            bells[me].wait();
                            end.awake();
                        }
                    }
                    assert!(!end.has_mail());
                });
            }
        });
    }
}

/// Every order of execution that the memory model allows, for small meshes:
/// `RUSTFLAGS="--cfg loom" cargo test -p corelane-mesh --release --lib loom`
#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    use super::*;

    /// What an end sleeps in; loom reports a wait that nobody ends as a deadlock.
    struct Bell {
        rung: Mutex<bool>,
        change: Condvar,
    }

    impl Bell {
        fn new() -> Self {
            Self { rung: Mutex::new(false), change: Condvar::new() }
        }

        fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.change.notify_one();
        }

        fn wait(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.change.wait(rung).unwrap();
            }
            *rung = false;
        }
    }

    /// Sends if there is room, and wakes as told. Whether it was taken.
    fn send(end: &mut End<u32, 2>, bell: &Bell, mail: u32) -> bool {
        match end.send(0, mail) {
            Ok(Delivery::WakePeer) => {
                bell.ring();
                true
            }
            Ok(Delivery::Awake) => true,
            Err(_) => false,
        }
    }

    /// Receives `expected` mails, sleeping whenever that is allowed.
    fn receive(end: &mut End<u32, 2>, bell: &Bell, limit: usize, expected: usize) -> Vec<u32> {
        let mut mails = Vec::new();
        loop {
            end.drain(limit, |_, mail| mails.push(mail));
            if mails.len() >= expected {
                return mails;
            }
            if end.prepare_sleep() == Sleep::Clear {
                bell.wait();
                end.awake();
            }
        }
    }

    /// All orders with at most `preemptions` forced changes of thread: loom's authors found
    /// that two or three of them show nearly every fault, and the unbounded search of three
    /// threads takes hours.
    fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(model);
    }

    /// Two mails fill the lane, the third may be refused; what was taken arrives in order.
    #[test]
    fn a_lane_keeps_order_through_a_full_ring() {
        explore(4, || {
            let mut ends = Mesh::<u32, 2>::ends(2).into_iter();
            let mut receiver = ends.next().unwrap();
            let mut sender = ends.next().unwrap();
            let thread = thread::spawn(move || {
                (0..4u32).filter(|mail| sender.send(0, *mail).is_ok()).collect::<Vec<_>>()
            });
            let mut received = Vec::new();
            receiver.drain(9, |_, mail| received.push(mail));
            receiver.drain(1, |_, mail| received.push(mail));
            let taken = thread.join().unwrap();
            receiver.drain(9, |_, mail| received.push(mail));
            assert_eq!(received, taken);
        });
    }

    #[test]
    fn a_sender_never_leaves_a_sleeper_with_mail() {
        explore(4, || {
            let bell = Arc::new(Bell::new());
            let mut ends = Mesh::<u32, 2>::ends(2).into_iter();
            let mut receiver = ends.next().unwrap();
            let mut sender = ends.next().unwrap();
            let theirs = Arc::clone(&bell);
            let thread = thread::spawn(move || {
                assert!(send(&mut sender, &theirs, 1));
                assert!(send(&mut sender, &theirs, 2));
            });
            assert_eq!(receive(&mut receiver, &bell, 1, 2), [1, 2]);
            thread.join().unwrap();
        });
    }

    #[test]
    fn telling_later_never_leaves_a_sleeper_with_mail() {
        explore(4, || {
            let bell = Arc::new(Bell::new());
            let mut ends = Mesh::<u32, 2>::ends(2).into_iter();
            let mut receiver = ends.next().unwrap();
            let mut sender = ends.next().unwrap();
            let theirs = Arc::clone(&bell);
            let thread = thread::spawn(move || {
                assert!(send(&mut sender, &theirs, 1));
                assert!(sender.post(0, 2).is_ok());
                sender.tell(|_| theirs.ring());
            });
            assert_eq!(receive(&mut receiver, &bell, 1, 2), [1, 2]);
            thread.join().unwrap();
        });
    }

    #[test]
    fn two_senders_never_leave_a_sleeper_with_mail() {
        explore(3, || {
            let bell = Arc::new(Bell::new());
            let mut ends = Mesh::<u32, 2>::ends(3).into_iter();
            let mut receiver = ends.next().unwrap();
            let threads: Vec<_> = ends
                .map(|mut sender| {
                    let bell = Arc::clone(&bell);
                    thread::spawn(move || assert!(send(&mut sender, &bell, 7)))
                })
                .collect();
            assert_eq!(receive(&mut receiver, &bell, 9, 2), [7, 7]);
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    #[test]
    fn undelivered_mail_is_dropped_with_the_last_end() {
        explore(4, || {
            let counted = Arc::new(());
            let mut ends = Mesh::<Arc<()>, 2>::ends(2).into_iter();
            let mut receiver = ends.next().unwrap();
            let mut sender = ends.next().unwrap();
            let mail = Arc::clone(&counted);
            let thread = thread::spawn(move || {
                let _ = sender.send(0, mail.clone());
                let _ = sender.send(0, mail);
            });
            receiver.drain(1, |_, mail| drop(mail));
            drop(receiver);
            thread.join().unwrap();
            assert_eq!(Arc::strong_count(&counted), 1);
        });
    }
}
