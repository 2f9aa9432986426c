use super::*;

const HOUR_MS: i64 = 3_600_000;
const LEFT: Duration = Duration::from_millis(800);

/// Clock skews that must not matter: this host's clock minus the gateway's, in milliseconds.
const SKEWS_MS: [i64; 7] = [-HOUR_MS, -1_500, -300, 0, 300, 1_500, HOUR_MS];

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The rule of a worker that read a request at the end of the partition, 5 ms after it was written.
fn caught_up(skew_ms: i64, now: Instant) -> Expiry {
    let mut expiry = Expiry::new(TopicPartition::new(&"ping".into(), 0));
    expiry.observe_at(now, true, now, [skew_ms + 5].into_iter());
    expiry
}

fn is_expired(expiry: &Expiry, now: Instant, difference_ms: i64) -> bool {
    expiry.is_expired_at(now, LEFT, || difference_ms)
}

/// The ages in milliseconds, up to 5 s, from which on a request of the newest batch is expired.
fn first_expired_age_ms(expiry: &Expiry, now: Instant, skew_ms: i64) -> Option<i64> {
    let is_expired = |age_ms: &i64| is_expired(expiry, now, skew_ms + age_ms);
    let first = (0..5_000).find(is_expired)?;
    assert!(
        (first..5_000).all(|age_ms| is_expired(&age_ms)),
        "older ones expire too"
    );
    Some(first)
}

#[test]
fn nothing_expires_before_the_end_was_reached() {
    let now = Instant::now();
    let mut expiry = Expiry::new(TopicPartition::new(&"ping".into(), 0));
    for _ in 0..3 {
        expiry.observe_at(now, false, now, [0, HOUR_MS].into_iter());
        assert!(!is_expired(&expiry, now + ms(60_000), HOUR_MS));
    }
}

#[test]
fn backlog_of_3_s_skips_expired_requests_only_at_any_clock_skew() {
    for skew_ms in SKEWS_MS {
        let start = Instant::now();
        let mut expiry = caught_up(skew_ms, start);
        let now = start + ms(3_000);
        expiry.observe_at(now, false, now, (0..3_000).map(|age_ms| skew_ms + age_ms));
        let first = first_expired_age_ms(&expiry, now, skew_ms);
        let first = first.unwrap_or_else(|| panic!("nothing expires at a skew of {skew_ms} ms"));
        let left_ms = i64::try_from(LEFT.as_millis()).unwrap();
        assert!(first > left_ms, "skew {skew_ms} ms: {first} ms is too early");
        assert!(
            first <= left_ms + MIN_MARGIN_MS + 6,
            "skew {skew_ms} ms: {first} ms is too late"
        );
    }
}

#[test]
fn backlog_read_in_one_batch_is_judged_by_its_newest_record() {
    for skew_ms in SKEWS_MS {
        let now = Instant::now();
        let mut expiry = Expiry::new(TopicPartition::new(&"ping".into(), 0));
        // The newest request is 100 ms old. The partition was never read before.
        expiry.observe_at(
            now,
            true,
            now,
            [4_000, 2_500, 700, 100].map(|age_ms| skew_ms + age_ms).into_iter(),
        );
        let first = first_expired_age_ms(&expiry, now, skew_ms).unwrap();
        assert!((801..=1_901).contains(&first), "skew {skew_ms} ms: {first} ms");
    }
}

#[test]
fn deadline_is_the_time_left_without_the_estimated_age() {
    for skew_ms in SKEWS_MS {
        let start = Instant::now();
        let expiry = caught_up(skew_ms, start);
        let now = start + ms(3_000);
        for (age_ms, estimated_ms) in [(0, 0), (5, 0), (1_005, 1_000), (2_999, 2_994), (9_000, 3_000)] {
            // Nothing is older than the last visit to the end.
            let mut expiry = Expiry {
                observed: None,
                ..caught_up(skew_ms, start)
            };
            expiry.observe_at(now, false, now, [skew_ms + age_ms].into_iter());
            assert_eq!(
                expiry.age(now, skew_ms + age_ms),
                ms(estimated_ms),
                "skew {skew_ms} ms, {age_ms} ms"
            );
        }
        assert_eq!(expiry.age(start, skew_ms - 100), ms(0), "from the future");
    }
    let unknown = Expiry::new(TopicPartition::new(&"ping".into(), 0));
    assert_eq!(unknown.age(Instant::now(), HOUR_MS), ms(0));
}

#[test]
fn records_newer_than_the_last_visit_to_the_end_never_expire() {
    let start = Instant::now();
    let mut expiry = caught_up(0, start);
    let now = start + LEFT;
    expiry.observe_at(now, true, now, [0].into_iter());
    assert!(!is_expired(&expiry, now, HOUR_MS), "the timestamp is wrong");
    assert!(is_expired(&expiry, now + ms(1), HOUR_MS));
}

#[test]
fn max_age_is_the_time_since_the_end_was_reached_before_the_newest_batch() {
    let mut freshness = Freshness::default();
    let now = Instant::now();
    freshness.observe(true, now);
    assert_eq!(
        freshness.max_age(now),
        Duration::MAX,
        "the first batch may hold old records"
    );
    freshness.observe(true, now + ms(1_000));
    assert_eq!(freshness.max_age(now + ms(2_000)), ms(2_000));
    freshness.observe(false, now + ms(5_000));
    freshness.observe(false, now + ms(6_000));
    assert_eq!(freshness.max_age(now + ms(7_000)), ms(6_000));
}

#[test]
fn margin_is_the_skew_but_at_least_1_s() {
    let now = Instant::now();
    for (smallest_ms, margin_ms) in [
        (HOUR_MS, HOUR_MS),
        (1_001, 1_001),
        (999, 1_000),
        (0, 1_000),
        (-999, 1),
        (-HOUR_MS, 1_000 - HOUR_MS),
        (i64::MIN, i64::MIN + 1_000),
    ] {
        let mut skew = ClockSkew::default();
        skew.observe(smallest_ms.saturating_add(7), now);
        skew.observe(smallest_ms, now);
        assert_eq!(skew.margin_ms(now), Some(margin_ms), "{smallest_ms}");
    }
}

#[test]
fn skew_follows_a_clock_that_was_set_and_is_forgotten_when_idle() {
    let mut now = Instant::now();
    let mut skew = ClockSkew::default();
    assert_eq!(skew.margin_ms(now), None);
    skew.observe(0, now);
    for _ in 0..2 {
        now += SKEW_PERIOD;
        skew.observe(HOUR_MS, now);
    }
    assert_eq!(skew.margin_ms(now), Some(HOUR_MS));
    assert_eq!(
        skew.margin_ms(now + 2 * SKEW_PERIOD),
        None,
        "the clock may have been set since"
    );
}

#[test]
fn clock_skew_is_logged_once_per_change() {
    let now = Instant::now();
    let fresh = ms(500);
    let log = |skew: &mut ClockSkew, difference_ms| {
        skew.observe(difference_ms, now);
        skew.take_change(fresh)
    };
    let mut skew = ClockSkew::default();
    assert_eq!(log(&mut skew, HOUR_MS + 40), Some(HOUR_MS + 40));
    assert_eq!(log(&mut skew, HOUR_MS + 40), None);
    assert_eq!(log(&mut skew, HOUR_MS), None, "changed by 40 ms");
    assert_eq!(log(&mut skew, 900), None, "within the margin");
    assert_eq!(log(&mut skew, -2_000), Some(-2_000));
    assert_eq!(log(&mut skew, -2_000), None);
}

#[test]
fn old_backlog_is_not_logged_as_clock_skew() {
    let now = Instant::now();
    let mut skew = ClockSkew::default();
    skew.observe(300_000, now);
    assert_eq!(skew.take_change(Duration::MAX), None, "the first batch may be old");
    assert_eq!(skew.take_change(ms(300_000)), None);
    assert_eq!(skew.take_change(ms(299_999)), Some(300_000));
}
