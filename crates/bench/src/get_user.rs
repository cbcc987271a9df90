//! What does it cost user-service to look a user up, beside a handler that looks nothing up?

use anyhow::{Context, Result, ensure};
use proto::user::v1::{CreateUserRequest, GetUserRequest, User};
use tokio::{runtime, task::JoinSet, time::Instant};

use crate::{
    table::{Table, grouped},
    turns::{median, progress},
    user_servers::UserServer,
};

/// How many users there are; they are asked for in turn.
const USERS: u32 = 100;

/// What does it cost user-service to look a user up, beside a handler that looks nothing up?
///
/// CPU time is that of the server's process alone, in user and in kernel mode. It is the binary as it is: with its metrics, its
/// checks of what is asked, and its users in a SQLite file. The handler is tonic's server with nothing around it, which answers
/// with a constant of the same shape. Both run on as many threads as there are processors.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  bench get-user --connections 2")]
pub(crate) struct Args {
    /// Calls under way at a time, on one connection
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    callers: u32,
    /// Calls in each measurement
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    calls: u32,
    /// Measurements of each server, of which the median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How many connections user-service has to its file
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
}

/// What one measurement came to.
#[derive(Clone, Copy)]
struct Figures {
    /// The server's, in seconds.
    cpu: f64,
    /// In seconds.
    elapsed: f64,
}

/// Measures both and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    println!(
        "{} callers, {} connections to the file, {USERS} users, the median of {} measurements of {} calls\n",
        args.callers, args.connections, args.rounds, args.calls
    );
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let measured = runtime.block_on(measure(args))?;
    let mut table = Table::new([
        "server",
        "CPU µs a call",
        "over the constant",
        "calls a second",
    ]);
    let calls = f64::from(args.calls);
    let cpu = |rounds: &[Figures]| median(rounds, |one| one.cpu * 1e6 / calls);
    let yardstick = cpu(&measured[0].1);
    for (name, rounds) in &measured {
        table.row([
            (*name).to_owned(),
            format!("{:.1}", cpu(rounds)),
            format!("{:.2}", cpu(rounds) / yardstick),
            grouped(median(rounds, |one| calls / one.elapsed)),
        ]);
    }
    print!("{table}");
    Ok(())
}

/// The servers take turns, so that a machine that gets slower slows both.
async fn measure(args: &Args) -> Result<Vec<(&'static str, Vec<Figures>)>> {
    let real = UserServer::real(args.connections).await?;
    create_users(&real).await?;
    let servers = [UserServer::constant().await?, real];
    let mut measured: Vec<_> = servers.iter().map(|one| (one.name, Vec::new())).collect();
    // The first calls connect, and fill whatever is filled once.
    for server in &servers {
        call(server, args.callers, args.callers * 20).await?;
    }
    let bar = progress(servers.len() * args.rounds as usize);
    for _ in 0..args.rounds {
        for (server, (name, figures)) in servers.iter().zip(&mut measured) {
            bar.set_message(*name);
            let (before, started) = (server.cpu_time()?, Instant::now());
            call(server, args.callers, args.calls).await?;
            figures.push(Figures {
                cpu: server.cpu_time()?.saturating_sub(before).as_secs_f64(),
                elapsed: started.elapsed().as_secs_f64(),
            });
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(measured)
}

fn id(number: u32) -> String {
    format!("user-{number}")
}

async fn create_users(server: &UserServer) -> Result<()> {
    for number in 0..USERS {
        let request = CreateUserRequest {
            user_id: id(number),
            request_id: String::new(),
            user: Some(User {
                display_name: format!("User {number} of many"),
                email: format!("{}@example.com", id(number)),
                ..User::default()
            }),
        };
        let created = server.client.clone().create_user(request).await;
        created.context("a user is created")?;
    }
    Ok(())
}

/// Asks for one user after another, each caller for those that are its own.
async fn call(server: &UserServer, callers: u32, count: u32) -> Result<()> {
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let mut client = server.client.clone();
        let calls = count / callers + u32::from(caller < count % callers);
        tasks.spawn(async move {
            for number in 0..calls {
                let name = format!("users/{}", id((caller + number * callers) % USERS));
                let found = client.get_user(GetUserRequest { name }).await?;
                ensure!(!found.get_ref().email.is_empty(), "a user has an address");
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}
