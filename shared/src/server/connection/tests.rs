use tokio::time::advance;

use super::*;

const TIMEOUTS: Timeouts = Timeouts {
    header: Duration::from_secs(10),
    idle: Duration::from_secs(75),
};

/// A connection that was accepted now.
fn accepted() -> Connection {
    Connection::accepted(TIMEOUTS, Instant::now())
}

/// A connection with a request.
fn in_request() -> Connection {
    let mut connection = accepted();
    connection.received(Instant::now);
    connection.begin_request();
    connection
}

/// The time until the deadline.
fn left(connection: &Connection) -> Option<Duration> {
    connection.deadline().map(|deadline| deadline - Instant::now())
}

#[tokio::test(start_paused = true)]
async fn first_head_has_the_header_timeout_from_the_accept() {
    let mut connection = accepted();
    assert_eq!(left(&connection), Some(TIMEOUTS.header));
    advance(Duration::from_secs(4)).await;
    connection.received(Instant::now);
    assert_eq!(left(&connection), Some(Duration::from_secs(6)));
    assert_eq!(connection.expire().unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn idle_time_does_not_count_in_the_next_head() {
    let mut connection = in_request();
    connection.begin_response(false);
    assert!(connection.written(Instant::now));
    assert_eq!(left(&connection), Some(TIMEOUTS.idle));

    advance(Duration::from_secs(74)).await;
    connection.received(Instant::now);
    assert_eq!(left(&connection), Some(TIMEOUTS.header));
    // Further bytes do not extend it.
    advance(Duration::from_secs(9)).await;
    connection.received(Instant::now);
    assert_eq!(left(&connection), Some(Duration::from_secs(1)));
    connection.begin_request();
    assert_eq!(left(&connection), None);
}

#[tokio::test(start_paused = true)]
async fn request_has_no_deadline_until_its_response_is_written() {
    let mut connection = in_request();
    assert_eq!(left(&connection), None);
    // Bytes of a body, and `100 Continue`.
    connection.received(Instant::now);
    assert!(!connection.written(Instant::now));
    assert_eq!(left(&connection), None);
    connection.begin_response(false);
    assert_eq!(left(&connection), None);
    assert!(connection.written(Instant::now));
    // hyper flushes an empty buffer again.
    assert!(!connection.written(Instant::now));
}

#[tokio::test(start_paused = true)]
async fn fin_outside_a_request_closes_at_once() {
    let mut connection = accepted();
    assert_eq!(connection.end_of_input(Instant::now()), EndOfInput::Close);
    let mut connection = in_request();
    connection.begin_response(false);
    connection.written(Instant::now);
    assert_eq!(connection.end_of_input(Instant::now()), EndOfInput::Close);
    assert!(!connection.is_half_closed());
}

#[tokio::test(start_paused = true)]
async fn fin_within_a_request_starts_the_grace_once() {
    let mut waiting = in_request();
    let mut writing = in_request();
    writing.begin_response(false);
    for connection in [&mut waiting, &mut writing] {
        assert_eq!(connection.end_of_input(Instant::now()), EndOfInput::Hold);
        assert!(connection.is_half_closed());
        advance(Duration::from_secs(1)).await;
        assert_eq!(connection.end_of_input(Instant::now()), EndOfInput::Hold);
        assert_eq!(left(connection), HALF_CLOSE_GRACE.checked_sub(Duration::from_secs(1)));
        // The end of the input, not an error.
        connection.expire().unwrap();
    }
    // A held FIN closes the connection after the response.
    assert!(writing.written(Instant::now));
    assert_eq!(left(&writing), Some(Duration::ZERO));
    assert_eq!(writing.end_of_input(Instant::now()), EndOfInput::Close);
}

#[tokio::test(start_paused = true)]
async fn close_lingers_only_while_the_client_may_send() {
    let answered = |has_unread_body| {
        let mut connection = in_request();
        connection.begin_response(has_unread_body);
        connection.written(Instant::now);
        connection
    };
    let now = Instant::now();
    assert_eq!(answered(false).linger(Instant::now), None);
    for mut connection in [answered(true), accepted()] {
        assert_eq!(connection.linger(Instant::now), Some(now + LINGER));
        assert_eq!(connection.linger(|| now + LINGER), Some(now + LINGER));
    }
}
