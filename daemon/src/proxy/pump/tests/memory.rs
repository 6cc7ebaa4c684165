//! The memory that connections share: who waits, who goes on, and who ends.

use super::super::super::budget::OWN;
use super::*;

#[tokio::test]
async fn without_memory_left_a_held_message_is_refused_and_what_moves_goes_on() {
    let budget = Budget::new(0, 0);
    let mut bench = Bench::with(1 << 20, &budget).await;
    tokio::select! {
        _ = pour(&mut bench.far_agent, 64 << 20) => panic!("all was taken"),
        event = bench.near.run(|_| {}) => assert_eq!(event, Event::NoRoom),
    }
    let held = bench.near.io.from_agent.len();
    assert!(held > READ_LEAST && held <= OWN, "{held}");
    // Answers are passed on as they come: they need no room.
    let mut bench = Bench::with(1 << 20, &budget).await;
    bench
        .far_upstream
        .write_all(&[0; 30_000])
        .await
        .expect("write");
    let mut passed = 0;
    while passed < 30_000 {
        assert_eq!(bench.next().await, Some(Event::Progress));
        passed += bench.near.io.from_upstream.len();
        bench.near.io.to_agent = bench.near.io.from_upstream.split();
    }
}

#[tokio::test]
async fn one_session_cannot_take_the_memory_of_another_ones_message() {
    const MESSAGE: usize = 1 << 20;
    let budget = Budget::new(4 * MESSAGE, MESSAGE);
    let greedy = SessionId::random();
    let mut benches = Vec::new();
    for _ in 0..16 {
        let mut bench = Bench::of(&greedy, MESSAGE, &budget).await;
        // Half a message that never ends.
        let half = vec![0; MESSAGE / 2];
        tokio::select! {
            sent = bench.far_agent.write_all(&half) => sent.expect("write"),
            event = bench.near.run(|_| {}) => assert_eq!(event, Event::NoRoom),
        }
        if bench.settle().await.is_none() {
            benches.push(bench);
        }
    }
    assert!((1..=2).contains(&benches.len()), "{}", benches.len());
    let mut other = Bench::with(MESSAGE, &budget).await;
    let message = vec![0; MESSAGE];
    tokio::select! {
        sent = other.far_agent.write_all(&message) => sent.expect("write"),
        event = other.near.run(|_| {}) => panic!("{event:?}"),
    }
    assert_eq!(other.settle().await, None);
    assert_eq!(other.near.io.from_agent.len(), MESSAGE);
}

/// Passes on what is whole of messages of so many bytes, as a session does.
fn whole_messages(io: &mut Buffers, size: usize) {
    let whole = io.from_agent.len() / size * size;
    let whole = io.from_agent.split_to(whole);
    io.to_upstream.extend_from_slice(&whole);
}

#[tokio::test]
async fn without_memory_left_messages_that_fit_into_a_connections_own_stream_through() {
    for size in [8 * 1024, OWN - READ_LEAST] {
        let Bench {
            mut near,
            mut far_agent,
            mut far_upstream,
        } = Bench::with(1 << 20, &Budget::new(0, 0)).await;
        let (all, mut passed) = (vec![7; 100 * size], vec![0; 100 * size]);
        let through = async {
            let sent = far_agent.write_all(&all);
            tokio::try_join!(sent, far_upstream.read_exact(&mut passed))
        };
        tokio::select! {
            through = timeout(PATIENCE, through) => {
                through.expect("in time").expect("all is passed on");
            }
            event = near.run(|io| whole_messages(io, size)) => panic!("{size}: {event:?}"),
        }
    }
}

/// Fills the way to an upstream that does not read: more than the connection's own memory
/// waits in it, and less than what stops the agent.
async fn stuck(budget: &Budget) -> Bench {
    const PIECE: usize = 180 * 1024;
    let mut bench = Bench::with(1 << 20, budget).await;
    while bench.near.io.to_upstream.len() < OWN {
        bench.near.io.to_upstream.extend_from_slice(&[0; PIECE]);
        // The socket takes it at once, or not at all.
        let next = timeout(Duration::from_millis(2), bench.near.next()).await;
        assert!(next.is_err(), "{next:?}");
    }
    assert_eq!(bench.next().await, None);
    let left = bench.near.io.to_upstream.len();
    assert!((OWN..HIGH_WATER).contains(&left), "{left}");
    bench
}

#[tokio::test]
async fn an_answer_that_has_no_room_does_not_wait_for_the_upstream_to_read() {
    let mut bench = stuck(&Budget::new(0, 0)).await;
    // It may read nothing before this is said to its end.
    let answer = [0; 3 * READ_LEAST];
    let said = bench.far_upstream.write_all(&answer);
    timeout(PATIENCE, said)
        .await
        .expect("in time")
        .expect("write");
    assert_eq!(bench.settle().await, Some(Event::NoRoom));
}

#[tokio::test]
async fn an_answer_that_waits_for_the_agent_has_room_once_it_reads() {
    let mut bench = Bench::with(1 << 20, &Budget::new(0, 0)).await;
    bench.near.io.to_agent.extend_from_slice(&vec![0; 16 << 20]);
    bench.far_upstream.write_all(b"row").await.expect("write");
    assert_eq!(bench.next().await, None);
    let mut all = vec![0; 16 << 20];
    let Bench {
        near, far_agent, ..
    } = &mut bench;
    tokio::select! {
        read = far_agent.read_exact(&mut all) => drop(read.expect("read")),
        event = near.run(|_| {}) => panic!("{event:?}"),
    }
    bench.settle().await;
    assert_eq!(&bench.near.io.from_upstream[..], b"row");
}

#[tokio::test]
async fn who_waits_for_room_goes_on_when_others_give_some_back() {
    let budget = Budget::new(1 << 20, 1 << 20);
    let mut other = budget.share(&SessionId::random());
    assert!(other.hold(OWN + (1 << 20)));
    let mut bench = stuck(&budget).await;
    bench.far_agent.write_all(b"more").await.expect("write");
    assert_eq!(bench.next().await, None);
    assert_eq!(&bench.near.io.from_agent[..], b"");
    let next = async {
        let next = tokio::spawn(async move { (bench.near.next().await, bench) });
        tokio::time::sleep(A_WHILE).await;
        drop(other);
        next.await.expect("no panic")
    };
    let (event, bench) = timeout(PATIENCE, next).await.expect("it wakes up");
    assert_eq!(event, Event::Progress);
    assert_eq!(&bench.near.io.from_agent[..], b"more");
}

#[tokio::test]
async fn the_end_of_an_agent_is_seen_where_nothing_more_of_it_has_room() {
    let mut bench = stuck(&Budget::new(0, 0)).await;
    assert_eq!(bench.next().await, None);
    bench.far_agent.shutdown().await.expect("shutdown");
    assert_eq!(bench.next().await, Some(Event::AgentClosed));

    let mut bench = stuck(&Budget::new(0, 0)).await;
    bench.far_agent.set_zero_linger().expect("linger");
    drop(std::mem::replace(&mut bench.far_agent, pair().await.0));
    assert_eq!(bench.next().await, Some(Event::AgentGone));
}

#[tokio::test]
async fn a_connection_at_rest_holds_little_memory() {
    let mut bench = Bench::new(1 << 20).await;
    let capacity = |io: &Buffers| {
        let (from, to) = (io.from_agent.capacity(), io.to_agent.capacity());
        from + to + io.from_upstream.capacity() + io.to_upstream.capacity()
    };
    // Larger and smaller, handed over and copied.
    for size in [500_000, 100_000, 20_000, 3_000] {
        let Bench {
            near,
            far_agent,
            far_upstream,
        } = &mut bench;
        let (data, mut down, mut up) = (vec![7; size], vec![0; size], vec![0; size]);
        let (mut agent_hears, mut agent_says) = far_agent.split();
        let (mut upstream_hears, mut upstream_says) = far_upstream.split();
        let talk = async {
            tokio::try_join!(
                agent_says.write_all(&data),
                upstream_says.write_all(&data),
                agent_hears.read_exact(&mut down),
                upstream_hears.read_exact(&mut up),
            )
        };
        let moving = near.run(|io| {
            io.to_agent.unsplit(io.from_upstream.split());
            let rest = io.from_agent.split();
            io.to_upstream.extend_from_slice(&rest);
        });
        tokio::select! {
            talked = talk => talked.map(drop).expect("all is passed on"),
            event = moving => panic!("{event:?}"),
        }
        bench.settle().await;
    }
    assert!(bench.near.io.held() == 0 && capacity(&bench.near.io) <= 4 * KEPT);
}
