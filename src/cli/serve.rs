//! `fetch-content serve`: a store over HTTP.

use crate::{
    cli::{args, interrupted, settings, settings::Tunables, ui::Ui},
    error::Result,
    http::Client,
    serve::{Server, Settings},
    store::{IfMissing, Store},
};
use std::sync::Arc;

/// Runs the subcommand, until a signal ends it. That is no failure.
pub(super) async fn run(args: args::Serve, ui: &Arc<Ui>) -> Result<()> {
    let stop = interrupted();
    let tunables = Tunables::new(&args.tuning)?;
    let location = settings::store(args.place.store)?;
    let if_missing = if args.write {
        IfMissing::Create
    } else {
        IfMissing::Refuse
    };
    let settings = Settings {
        listen: args.listen,
        write: args.write,
        stall_timeout: tunables.http.stall_timeout,
    };
    let client = Client::new(tunables.http)?;
    let store = Store::open(&location, if_missing, &client, &tunables.retry).await?;
    let log = Arc::clone(ui);
    let report = Arc::new(move |text: &str| log.line(&format!("error: {text}")));
    let server = Server::bind(Arc::new(store), settings, report).await?;
    let address = server.address();
    if args.write && !address.ip().is_loopback() {
        ui.warning(&format!(
            "everybody who can reach {address} can write to the store"
        ));
    }
    Ui::data(&format!("http://{address}"))?;
    server
        .run(async {
            let number = stop.await;
            ui.line(&format!("ends because of signal {number}"));
        })
        .await;
    Ok(())
}
