//! PostgreSQL as a client over the network sees it.

use crate::ledger::{Server, Session};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls, Statement};

/// A host without power does not answer; TCP itself would ask again only after a second.
const CONNECT: Duration = Duration::from_millis(100);
const LOGIN: Duration = Duration::from_secs(2);
/// A commit that takes longer is given up, and its connection with it.
const COMMIT: Duration = Duration::from_millis(500);

/// A server and an account on it.
pub struct Postgres {
    pub address: SocketAddr,
    pub config: Config,
}

struct Connection {
    runtime: Runtime,
    client: Client,
    insert: Statement,
    node: Arc<str>,
}

impl Server for Postgres {
    fn connect(&self) -> Result<Box<dyn Session>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| e.to_string())?;
        let (client, node, insert) = runtime.block_on(self.log_in())?;
        Ok(Box::new(Connection {
            runtime,
            client,
            insert,
            node,
        }))
    }
}

impl Postgres {
    async fn log_in(&self) -> Result<(Client, Arc<str>, Statement), String> {
        let stream = within(CONNECT, TcpStream::connect(self.address)).await?;
        let _ = stream.set_nodelay(true);
        let (client, connection) = within(LOGIN, self.config.connect_raw(stream, NoTls)).await?;
        tokio::spawn(connection);
        let asked = "select trim(trailing E'\\n' from pg_read_file('/proc/sys/kernel/hostname'))";
        let row = within(LOGIN, client.query_one(asked, &[])).await?;
        let node: &str = row.try_get(0).map_err(|e| e.to_string())?;
        let node = node.into();
        let insert = "insert into ledger values ($1, repeat(md5($1::bigint::text), 4))";
        let insert = within(LOGIN, client.prepare(insert)).await?;
        Ok((client, node, insert))
    }
}

impl Session for Connection {
    fn node(&self) -> &Arc<str> {
        &self.node
    }

    fn commit(&mut self, n: u64) -> Result<(), String> {
        let n = i64::try_from(n).map_err(|e| e.to_string())?;
        let (client, insert) = (&self.client, &self.insert);
        let inserted = async { client.execute(insert, &[&n]).await };
        match self.runtime.block_on(within(COMMIT, inserted))? {
            1 => Ok(()),
            rows => Err(format!("{rows} rows inserted")),
        }
    }
}

async fn within<T, E: std::error::Error>(
    limit: Duration,
    done: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, done).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            let cause = error
                .source()
                .map_or_else(String::new, |e| format!(": {e}"));
            Err(format!("{error}{cause}"))
        }
        Err(_) => Err(format!("no answer within {} ms", limit.as_millis())),
    }
}
