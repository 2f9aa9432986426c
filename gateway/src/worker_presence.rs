//! Whether there is anybody to answer.
//!
//! Workers of ours announce themselves each second in the topic of the replies. Once one has, silence means something: no
//! heartbeat and no reply for a while, although Kafka answers us. A worker that does not announce itself is never judged:
//! where replies come without announcements, another kind of worker has taken over.

use std::time::Duration;

use tokio::time::Instant;

/// So much silence means that nobody is there: three announcements missed, and time for a worker to be restarted.
const SILENCE: Duration = Duration::from_secs(3);

/// The most that one fetch adds to the silence: it waits half a second for records, and what goes beyond that is Kafka's.
const LISTENED: Duration = Duration::from_millis(600);

/// A longer time between two fetches was an outage.
const OUTAGE: Duration = Duration::from_millis(1500);

/// How much more silence an outage allows: the workers may need some seconds longer than we to come back to Kafka.
const GRACE: Duration = Duration::from_secs(8);

/// Listens for workers.
#[derive(Debug, Default)]
pub(crate) struct WorkerPresence {
    /// Workers announce themselves.
    announced: bool,
    silence: Duration,
    /// The same, but for announcements only.
    unannounced: Duration,
    /// How much of it is no sign of absence.
    grace: Duration,
    /// When Kafka answered last.
    listened: Option<Instant>,
}

/// What a fetch brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sign {
    Nothing,
    /// Replies to callers of ours.
    Replies,
    /// A worker that says it is there.
    Heartbeat,
}

// === impl WorkerPresence ===

impl WorkerPresence {
    /// Kafka answered a fetch.
    pub(crate) fn listen(&mut self, sign: Sign, now: Instant) {
        let listened = self.answered(now).min(LISTENED);
        self.silence += listened;
        self.unannounced += listened;
        match sign {
            Sign::Nothing => return,
            Sign::Replies => self.announced &= self.unannounced < SILENCE + self.grace,
            Sign::Heartbeat => (self.announced, self.unannounced) = (true, Duration::ZERO),
        }
        (self.silence, self.grace) = (Duration::ZERO, Duration::ZERO);
    }

    /// Kafka answered, but there is more than we may read, or have read: an open transaction may hide anything. That is no
    /// silence.
    pub(crate) fn pass(&mut self, now: Instant) {
        self.answered(now);
    }

    /// Gives the time since the last answer.
    fn answered(&mut self, now: Instant) -> Duration {
        let gap = self.listened.replace(now).map_or(Duration::ZERO, |last| now - last);
        if gap > OUTAGE {
            (self.silence, self.unannounced) = (Duration::ZERO, Duration::ZERO);
            self.grace = GRACE;
        }
        gap
    }

    /// Whether nobody can answer.
    pub(crate) fn has_no_worker(&self) -> bool {
        self.announced && self.silence >= SILENCE + self.grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fetches that bring nothing, one every half second.
    fn silence(presence: &mut WorkerPresence, now: &mut Instant, seconds: u64) {
        for _ in 0..2 * seconds {
            *now += Duration::from_millis(500);
            presence.listen(Sign::Nothing, *now);
        }
    }

    #[test]
    fn whoever_never_announced_itself_is_never_judged() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.listen(Sign::Replies, now);
        silence(&mut presence, &mut now, 60);
        assert!(!presence.has_no_worker());
    }

    #[test]
    fn three_seconds_after_the_last_announcement_nobody_is_there() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.listen(Sign::Heartbeat, now);
        silence(&mut presence, &mut now, 2);
        assert!(!presence.has_no_worker());
        silence(&mut presence, &mut now, 1);
        assert!(presence.has_no_worker());
    }

    #[test]
    fn what_cannot_be_read_yet_changes_nothing() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.listen(Sign::Heartbeat, now);
        for no_worker in [false, true] {
            for _ in 0..20 {
                now += Duration::from_millis(500);
                presence.pass(now);
                assert_eq!(presence.has_no_worker(), no_worker);
            }
            silence(&mut presence, &mut now, 3);
            assert!(presence.has_no_worker());
        }
    }

    #[test]
    fn an_outage_is_one_whatever_the_first_answer_is() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.listen(Sign::Heartbeat, now);
        silence(&mut presence, &mut now, 2);
        now += Duration::from_secs(20);
        presence.pass(now);
        silence(&mut presence, &mut now, 10);
        assert!(!presence.has_no_worker());
        silence(&mut presence, &mut now, 1);
        assert!(presence.has_no_worker());
    }

    #[test]
    fn an_announcement_or_a_reply_ends_the_silence() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.listen(Sign::Heartbeat, now);
        for sign in [Sign::Heartbeat, Sign::Replies] {
            silence(&mut presence, &mut now, 5);
            assert!(presence.has_no_worker());
            presence.listen(sign, now);
            assert!(!presence.has_no_worker());
        }
    }

    #[test]
    fn where_replies_come_without_announcements_silence_means_nothing() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.listen(Sign::Heartbeat, now);
        // Replies tell as much as announcements at first.
        silence(&mut presence, &mut now, 2);
        presence.listen(Sign::Replies, now);
        silence(&mut presence, &mut now, 3);
        assert!(presence.has_no_worker());
        // Somebody answers who does not announce itself.
        presence.listen(Sign::Replies, now);
        silence(&mut presence, &mut now, 60);
        assert!(!presence.has_no_worker());
        presence.listen(Sign::Heartbeat, now);
        silence(&mut presence, &mut now, 3);
        assert!(presence.has_no_worker());
    }

    #[test]
    fn while_kafka_does_not_answer_there_is_no_silence() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.listen(Sign::Heartbeat, now);
        now += Duration::from_secs(60);
        presence.listen(Sign::Nothing, now);
        assert!(!presence.has_no_worker());
        // The workers have to find it again, too.
        silence(&mut presence, &mut now, 8);
        assert!(!presence.has_no_worker());
        silence(&mut presence, &mut now, 4);
        assert!(presence.has_no_worker());
    }
}
