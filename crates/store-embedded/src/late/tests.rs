use proptest::prelude::*;
use tidings_core::ConversationId;
use tidings_core::mark::MarkKind;

use super::*;

fn mark(owner: u8, seq: u64) -> Mark {
    Mark {
        log: LogId::conversation(ConversationId([1; 16])),
        owner: [owner; 16],
        kind: MarkKind::Delivered,
        lane: 0,
        value: MarkValue {
            seq,
            ..MarkValue::default()
        },
    }
}

fn taken(late: &Late, taking: Taking) -> Vec<u64> {
    let values = late.take(taking);
    let mut marks: Vec<&Mark> = values.marks().flatten().collect();
    marks.sort_unstable_by_key(|mark| mark.owner);
    marks.iter().map(|mark| mark.value.seq).collect()
}

#[test]
fn a_mark_that_rises_again_leaves_once_with_its_highest_value() {
    let late = Late::new(Duration::from_secs(100));
    assert!(late.raise(&[mark(1, 5)]), "the first must be told");
    assert!(!late.raise(&[mark(1, 7), mark(1, 6)]));
    assert!(!late.raise(&[mark(2, 1)]));
    assert_eq!(taken(&late, Taking::Passing), [0; 0], "none of it is due");
    assert_eq!(taken(&late, Taking::All), [7, 1]);
    assert_eq!(late.due(), None);
    assert!(late.raise(&[mark(1, 8)]), "nothing waits any more");
    assert_eq!(cached(&late), [8]);
}

#[test]
fn what_is_leaving_is_still_seen() {
    let late = Late::new(Duration::ZERO);
    late.raise(&[mark(1, 5)]);
    assert_eq!(taken(&late, Taking::Passing), [5]);
    assert_eq!(cached(&late), [5]);
    late.raise(&[mark(1, 4)]);
    assert_eq!(cached(&late), [5]);
    late.left();
    assert_eq!(cached(&late), [4]);
}

/// The marks of owner 1.
fn cached(late: &Late) -> Vec<u64> {
    let marks = late.marks(mark(1, 0).log, [1; 16]);
    marks.iter().map(|(_, _, value)| value.seq).collect()
}

#[test]
fn what_belongs_in_the_inbox_is_found_there_until_it_has_left() {
    let late = Late::new(Duration::ZERO);
    let joined = Mark {
        kind: MarkKind::Joined,
        ..mark(1, 5)
    };
    late.raise(&[joined, mark(1, 7)]);
    let inbox = || late.inbox([0; 38]..=[0xff; 38]).into_values();
    assert_eq!(inbox().map(|value| value.seq).collect::<Vec<_>>(), [5]);
    late.take(Taking::All);
    assert_eq!(inbox().count(), 1);
    late.left();
    assert_eq!(inbox().count(), 0);
}

/// What the cache is held against: every mark that waits, since when, and what is leaving.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<OneMark, (Instant, MarkValue)>,
    leaving: BTreeMap<OneMark, MarkValue>,
}

type OneMark = (LogId, [u8; 16], MarkKind);

impl Model {
    fn raise(&mut self, mark: &Mark, now: Instant) {
        let key = (mark.log, mark.owner, mark.kind);
        let (_, value) = self.waiting.entry(key).or_insert((now, mark.value));
        *value = value.max(mark.value);
    }

    fn take(&mut self, values: &Values) {
        self.leaving.clear();
        for mark in values.marks().flatten() {
            let key = (mark.log, mark.owner, mark.kind);
            let (_, value) = self.waiting.remove(&key).expect("it waits");
            assert_eq!(mark.value, value);
            self.leaving.insert(key, value);
        }
    }

    /// What reads must see.
    fn seen(&self) -> BTreeMap<OneMark, MarkValue> {
        let mut seen = self.leaving.clone();
        for (key, (_, value)) in &self.waiting {
            higher(&mut seen, *key, *value);
        }
        seen
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// In which log; whose, which, as far as.
    Raise(u8, Vec<(u8, u8, u64)>),
    Pass(u64),
    Take(bool),
    Left,
}

fn event() -> impl Strategy<Value = Event> {
    let marks = prop::collection::vec((0..40_u8, 1..=7_u8, 1..100_u64), 1..12);
    prop_oneof![
        6 => (0..3_u8, marks).prop_map(|(log, marks)| Event::Raise(log, marks)),
        3 => (1..60_u64).prop_map(Event::Pass),
        2 => prop::bool::weighted(0.1).prop_map(Event::Take),
        1 => Just(Event::Left),
    ]
}

fn check(late: &Late, model: &Model) {
    let seen = model.seen();
    let mut found = BTreeMap::new();
    for log in (0..3).map(log) {
        let of_log = late.marks_of_log(log, [0; 16]..=[0xff; 16]);
        for (key, marks) in of_log {
            let (_, owner) = keys::parse_marks(&key).unwrap();
            assert_eq!(late.marks(log, owner).sorted(), marks.clone().sorted());
            found.extend(
                marks
                    .iter()
                    .map(|(kind, _, value)| ((log, owner, kind), value)),
            );
        }
    }
    assert_eq!(found, seen);
    let in_inbox = seen
        .iter()
        .filter(|((.., kind), _)| keys::is_in_inbox(*kind));
    let in_inbox: BTreeMap<_, _> = in_inbox
        .map(|((log, owner, kind), value)| {
            (keys::inbox(&keys::marks(*log, *owner), *kind, 0), *value)
        })
        .collect();
    assert_eq!(late.inbox([0; 38]..=[0xff; 38]), in_inbox);
}

fn log(number: u8) -> LogId {
    LogId::conversation(ConversationId([number; 16]))
}

proptest! {
    /// Small conversations and large ones: nothing is lost, or seen lower than it is, or late.
    #[test]
    fn it_says_what_a_plain_list_says(events in prop::collection::vec(event(), 1..80)) {
        let late = Late::new(Duration::from_millis(100));
        let mut model = Model::default();
        let mut now = Instant::now();
        for event in events {
            match event {
                Event::Raise(number, marks) => {
                    let marks: Vec<Mark> = marks
                        .into_iter()
                        .map(|(owner, kind, seq)| Mark {
                            log: log(number),
                            kind: MarkKind::from_number(kind).unwrap(),
                            ..mark(owner, seq)
                        })
                        .collect();
                    // The committer is told of the first, and knows of it until all is taken.
                    let is_first = late.due().is_none();
                    prop_assert!(!is_first || model.waiting.is_empty());
                    marks.iter().for_each(|mark| model.raise(mark, now));
                    prop_assert_eq!(late.raise_at(&marks, now), is_first);
                }
                Event::Pass(millis) => now += Duration::from_millis(millis),
                Event::Take(is_all) => {
                    let taking = if is_all { Taking::All } else { Taking::Passing };
                    model.take(&late.take_at(taking, now));
                    let oldest = model.waiting.values().map(|(since, _)| now - *since).max();
                    let age_max = if is_all { 0 } else { 60 };
                    prop_assert!(oldest.is_none_or(|age| age < Duration::from_millis(age_max)));
                }
                Event::Left => {
                    late.left();
                    model.leaving.clear();
                }
            }
            check(&late, &model);
        }
    }
}
