//! What a peer can make a server do has an end, and who calls meanwhile notices nothing.

use std::{net::SocketAddr, time::Duration};

use proto::helloworld::greeter_client::GreeterClient;
use testkit::{
    eventually,
    hostile::{AlmostWhole, Attack, Unread, Verdict},
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    select,
    time::{interval, timeout},
};
use tonic::{Code, transport::Channel};

use crate::running::{BOUND, Running, command, hello, runtime, spawn};

/// No error, and a stream that is refused: RFC 9113, section 7.
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
/// A caller is served so often, at least, while somebody attacks.
const MEANWHILE: usize = 50;

/// A server with these limits, the others being the defaults.
async fn start(limits: &[(&str, &str)]) -> (tempfile::TempDir, Running) {
    let runtime = runtime();
    let mut command = command(runtime.path(), &[]);
    for (key, value) in limits {
        command.env(format!("DISCOVERY__SERVER__LIMITS__{key}"), value);
    }
    let server = spawn(command).await;
    (runtime, server)
}

impl Running {
    fn socket(&self) -> SocketAddr {
        self.address.parse().expect("an address")
    }

    /// Tries `attack` while another caller calls, none of whose calls fails.
    async fn under(&self, attack: Attack) -> Verdict {
        let mut verdict = None;
        let mut attacking = std::pin::pin!(attack.try_on(self.socket()));
        let (mut calls, mut pace) = (0, interval(Duration::from_millis(5)));
        while verdict.is_none() || calls < MEANWHILE {
            select! {
                said = &mut attacking, if verdict.is_none() => verdict = Some(said.expect("a verdict")),
                _ = pace.tick() => {
                    let greeted = timeout(BOUND, self.greets("world")).await;
                    greeted.expect("a caller is served while somebody attacks");
                    calls += 1;
                }
            }
        }
        verdict.expect("a verdict")
    }

    async fn until_refused(&self, reason: &str, count: usize) {
        let metric = "discovery_server_connections_refused_total";
        self.until(metric, &format!("reason=\"{reason}\""), |now| now == count)
            .await;
    }

    /// Waits until the metric that is described so is as it should be.
    async fn until(&self, metric: &str, attribute: &str, is_so: impl Fn(usize) -> bool) {
        eventually(BOUND, &format!("{metric} {attribute}"), async || {
            let page = self.admin_page("/metrics").await;
            let described = |line: &&str| line.starts_with(metric) && line.contains(attribute);
            let line = page.lines().find(described);
            let value = line.and_then(|line| line.split(' ').next_back()?.parse().ok());
            value.is_some_and(&is_so)
        })
        .await;
    }

    /// A caller that comes from another address of this host.
    async fn greeter_elsewhere(&self) -> GreeterClient<Channel> {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).expect("a URI");
        let elsewhere = endpoint.local_address(Some([127, 0, 0, 2].into()));
        GreeterClient::new(elsewhere.connect().await.expect("a place"))
    }

    /// How many lines of its log say so; there is one, or there will be.
    async fn logged(&self, text: &str) -> usize {
        let has_logged = || {
            self.process
                .output()
                .iter()
                .any(|line| line.text.contains(text))
        };
        eventually(BOUND, text, async || has_logged()).await;
        let output = self.process.output();
        output
            .iter()
            .filter(|line| line.text.contains(text))
            .count()
    }
}

#[tokio::test]
async fn who_does_not_come_to_the_point_is_cut_off_and_counted() {
    let (_runtime, server) = start(&[("HANDSHAKE_TIMEOUT", "5s")]).await;
    let verdict = server.under(Attack::SlowHandshake).await;
    assert_eq!(verdict, Verdict::Ended { code: None });
    server.until_refused("handshake_timeout", 1).await;
    assert_eq!(server.logged("server.limits.handshake_timeout").await, 1);
}

#[tokio::test]
async fn who_takes_all_connections_of_an_address_leaves_them_to_other_addresses() {
    let (_runtime, server) = start(&[
        ("CONNECTIONS_PER_ADDRESS", "20"),
        // None of them is ever cut off for its silence.
        ("HANDSHAKE_TIMEOUT", "1h"),
    ])
    .await;
    let mut taken = Vec::new();
    loop {
        let mut socket = TcpStream::connect(server.socket())
            .await
            .expect("it listens");
        // The server speaks first, with its SETTINGS, and not to whom it refuses.
        if socket.read_u8().await.is_err() {
            break;
        }
        taken.push(socket);
    }
    // One is the caller's that was there before.
    assert_eq!(taken.len(), 19);
    let mut greeter = server.greeter_elsewhere().await;
    greeter.say_hello(hello("world")).await.expect("a greeting");
    server.greets("world").await;
    server.until_refused("connections_per_address", 1).await;

    for _ in 0..20 {
        let mut socket = TcpStream::connect(server.socket())
            .await
            .expect("it listens");
        socket.read_u8().await.expect_err("it is full");
    }
    server.until_refused("connections_per_address", 21).await;
    let lines = server.logged("server.limits.connections_per_address").await;
    assert!(
        (1..5).contains(&lines),
        "{lines} lines in less than a minute"
    );
}

#[tokio::test]
async fn connections_have_an_end_in_all() {
    let (_runtime, server) = start(&[("CONNECTIONS", "20")]).await;
    let verdict = server.under(Attack::Connections).await;
    assert_eq!(verdict, Verdict::Ended { code: None });
    server.until_refused("connections", 1).await;
}

#[tokio::test]
async fn who_answers_nothing_is_taken_for_gone() {
    let limits = [("KEEP_ALIVE_INTERVAL", "1s"), ("KEEP_ALIVE_TIMEOUT", "10s")];
    let (_runtime, server) = start(&limits).await;
    let verdict = server.under(Attack::Silence).await;
    assert!(matches!(verdict, Verdict::Ended { .. }), "{verdict:?}");
}

#[tokio::test]
async fn a_connection_is_told_to_go_at_its_age() {
    let (_runtime, server) = start(&[("CONNECTION_AGE", "1s")]).await;
    let verdict = Attack::Silence
        .try_on(server.socket())
        .await
        .expect("a verdict");
    let code = Some(NO_ERROR);
    assert_eq!(verdict, Verdict::Ended { code });
}

#[tokio::test]
async fn who_opens_more_calls_than_it_may_is_refused_those() {
    let (_runtime, server) = start(&[("CONCURRENT_STREAMS", "10")]).await;
    let verdict = server.under(Attack::Streams).await;
    let code = REFUSED_STREAM;
    assert_eq!(verdict, Verdict::Refused { code });
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused_and_one_below_it_is_not() {
    let (_runtime, server) = start(&[("MESSAGE_SIZE", "2048")]).await;
    server.greets(&"x".repeat(2_000)).await;
    let refused = server.greeter().say_hello(hello(&"x".repeat(2_100))).await;
    assert_eq!(
        refused.expect_err("it is too long").code(),
        Code::ResourceExhausted
    );
}

#[tokio::test]
async fn messages_above_the_limit_are_refused_one_by_one_and_fail_no_other_call() {
    let (_runtime, server) = start(&[]).await;
    let verdict = server.under(Attack::TooLongMessages).await;
    assert!(matches!(verdict, Verdict::Exhausted { .. }), "{verdict:?}");
    server.until_no_call_is_in_flight().await;
    // 132 MiB were sent, or less, and none of it is gathered; the connection has a window of 16 MiB.
    let peak = server.peak_resident();
    assert!(peak < 100, "{peak} MiB");
}

#[tokio::test]
async fn headers_are_kept_no_longer_than_they_may_be() {
    let (_runtime, server) = start(&[]).await;
    for attack in [
        Attack::LongHeaders,
        Attack::HeaderBomb,
        Attack::Continuations,
    ] {
        let verdict = server.under(attack).await;
        assert!(verdict.is_calmed(), "{attack:?}: {verdict:?}");
    }
    assert!(server.resident() < 100, "{} MiB", server.resident());
}

#[tokio::test]
async fn calls_that_are_given_up_as_they_are_made_end_the_connection() {
    let (_runtime, server) = start(&[]).await;
    for attack in [Attack::RapidResets, Attack::MadeResets, Attack::EmptyData] {
        let verdict = server.under(attack).await;
        assert!(verdict.is_calmed(), "{attack:?}: {verdict:?}");
    }
    server.until_no_call_is_in_flight().await;
}

#[tokio::test]
async fn messages_that_are_promised_take_no_memory_before_they_come() {
    let (_runtime, server) = start(&[]).await;
    let verdict = server.under(Attack::UnfinishedMessages).await;
    assert_eq!(verdict, Verdict::Endured);
    // A hundred messages of 4 MiB would be 400.
    assert!(server.resident() < 150, "{} MiB", server.resident());
    server.until_no_call_is_in_flight().await;
}

#[tokio::test]
async fn messages_that_never_become_whole_take_no_more_memory_than_they_may() {
    const MIB: usize = 1024 * 1024;
    const MOST: usize = 32;
    let most = (MOST * MIB).to_string();
    let (_runtime, server) = start(&[("MESSAGE_MEMORY_PER_ADDRESS", &most)]).await;
    let sent = timeout(BOUND * 4, AlmostWhole::send(server.socket())).await;
    let attack = sent.expect("it is read").expect("calls end as they should");

    let kept = MOST * MIB / AlmostWhole::MESSAGE;
    let reason = "reason=\"message_memory_per_address\"";
    let refused = "discovery_server_calls_refused_total";
    server
        .until(refused, reason, |now| now >= AlmostWhole::CALLS - kept)
        .await;
    server
        .until("discovery_server_message_memory_bytes", "", |now| {
            now <= MOST * MIB
        })
        .await;
    // Of 512 MiB that were sent; each of four connections has a window of 16 MiB beside.
    let peak = server.peak_resident();
    assert!(peak < 256, "{peak} MiB");

    // Who comes from there is still served, and who comes from elsewhere has memory of its own.
    server.greets("world").await;
    let mut elsewhere = server.greeter_elsewhere().await;
    let long = "x".repeat(MIB);
    elsewhere.say_hello(hello(&long)).await.expect("a greeting");
    let lines = server.logged("server.limits.message_memory_per_address");
    assert!((1..5).contains(&lines.await), "in less than a minute");

    drop(attack);
    server.until_no_call_is_in_flight().await;
    server
        .until("discovery_server_message_memory_bytes", "", |now| now == 0)
        .await;
    server.greets(&long).await;
}

#[tokio::test]
async fn answers_that_nobody_reads_are_memory_of_the_messages_until_the_connection_ends() {
    let (_runtime, server) = start(&[]).await;
    let sent = timeout(BOUND, Unread::send(server.socket())).await;
    let unread = sent.expect("it is answered").expect("it is answered");
    // For the server they have ended; what is left of them waits to be read.
    server.until_no_call_is_in_flight().await;
    let taken = "discovery_server_message_memory_bytes";
    let least = Unread::CALLS * Unread::MESSAGE;
    server.until(taken, "", |now| now >= least).await;
    drop(unread);
    server.until(taken, "", |now| now == 0).await;
}

#[tokio::test]
async fn answers_that_nobody_reads_fail_no_other_call() {
    let (_runtime, server) = start(&[]).await;
    let verdict = server.under(Attack::UnreadAnswers).await;
    assert_eq!(verdict, Verdict::Endured);
    server.until_no_call_is_in_flight().await;
}

#[tokio::test]
async fn messages_that_never_become_whole_fail_no_other_call() {
    let (_runtime, server) = start(&[]).await;
    let verdict = server.under(Attack::AlmostWholeMessages).await;
    assert!(matches!(verdict, Verdict::Exhausted { .. }), "{verdict:?}");
    server.until_no_call_is_in_flight().await;
}

#[tokio::test]
async fn floods_of_frames_that_ask_for_nothing_end_the_connection() {
    let (_runtime, server) = start(&[]).await;
    let floods = [
        Attack::Pings,
        Attack::PingAnswers,
        Attack::Settings,
        Attack::WindowUpdates,
        Attack::Priorities,
        Attack::RepeatedResets,
    ];
    for attack in floods {
        let verdict = server.under(attack).await;
        assert_eq!(verdict, Verdict::Ended { code: None }, "{attack:?}");
    }
    server.until_refused("control_frames", floods.len()).await;
    // One line for a minute: fewer than floods, unless each takes longer than that.
    let lines = server.logged("server.limits.control_frames").await;
    assert!((1..floods.len()).contains(&lines), "{lines} lines");
}

#[tokio::test]
async fn a_peer_cannot_fill_the_log() {
    let (_runtime, server) = start(&[("CONTROL_FRAMES", "1000000")]).await;
    let verdict = server.under(Attack::PingAnswers).await;
    assert_eq!(verdict, Verdict::Endured);
    let lines = server.logged("PING ack that we never sent").await;
    assert!(
        (1..5).contains(&lines),
        "{lines} lines in less than a minute"
    );
}
