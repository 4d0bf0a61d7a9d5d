//! Downloads and uploads, made so that an order needn't wait for their end.
//!
//! A file may be large and a Server slow, and while a cancellation is open the Server offers nothing to anybody
//! (PROTOCOL 2).

use std::thread;

use crossbeam_channel::{bounded, select};

use super::{Halt, Run};
use crate::client::{Client, ClientError};

impl Run<'_> {
    /// Makes a call in a thread of its own, on connections of this task's own. An order that comes meanwhile is taken
    /// in and ends the call; what the call came to is returned all the same, unless the order was to leave.
    pub(super) fn transfer<T: Send>(
        &mut self,
        call: impl FnOnce(&Client) -> Result<T, ClientError> + Send,
    ) -> Result<Result<T, ClientError>, Halt> {
        let client = self.transfers.clone();
        let orders = self.orders.clone();
        let (done, result) = bounded(1);
        thread::scope(|scope| {
            thread::Builder::new()
                .name("transfer".to_owned())
                // There is always somebody to take the result, or nobody needs it any more.
                .spawn_scoped(scope, || drop(done.send(call(&client))))
                .map_err(|error| Halt::later(format!("no thread for a transfer: {error}")))?;
            loop {
                select! {
                    recv(result) -> result => {
                        return result.map_err(|_| Halt::later("a transfer ended without a result"));
                    }
                    recv(orders) -> order => {
                        let obeyed = order.map_err(|_| Halt::Left).and_then(|order| self.obey(order));
                        client.abort();
                        self.transfers = self.shop.client.with_own_connections(&self.shop.config.server);
                        obeyed?;
                    }
                }
            }
        })
    }
}
