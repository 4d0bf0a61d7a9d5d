//! The Server's check for silent services (PROTOCOL 3 and 4).

use super::super::task::Status;
use super::State;
use std::time::{Duration, Instant};

impl State {
    /// Looks for services without a heartbeat for `timeout`. If there is one, the tasks of *every* offline service are
    /// requeued, also of those that reported `offline` themselves.
    pub fn check_heartbeats(&mut self, now: Instant, timeout: Duration) {
        let silent = |since: Option<Instant>| since.is_some_and(|at| now.saturating_duration_since(at) > timeout);
        let mut found = false;
        for service in &mut self.services {
            if service.status != "offline" && silent(service.last_heartbeat) {
                service.status = "offline".to_owned();
                found = true;
            }
        }
        if found {
            self.requeue_tasks_of_offline_services();
        }
    }

    /// Declares one service offline, as after a missing heartbeat.
    pub fn time_out(&mut self, sid: &str) {
        if let Ok(service) = self.service_mut(sid) {
            service.status = "offline".to_owned();
            self.requeue_tasks_of_offline_services();
        }
    }

    fn requeue_tasks_of_offline_services(&mut self) {
        let offline: Vec<&str> = self
            .services
            .iter()
            .filter(|service| service.status == "offline")
            .map(|service| service.id.as_str())
            .collect();
        for task in &mut self.tasks {
            if !offline.contains(&task.service_id.as_str()) {
                continue;
            }
            match task.status {
                Status::Cancelling => task.become_(Status::Cancelled),
                Status::Running if task.retry_count >= self.max_retries => {
                    task.error_message = Some("重试次数过多 too many retries".to_owned());
                    task.become_(Status::Failed);
                }
                Status::Running => {
                    task.retry_count += 1;
                    task.become_(Status::Pending);
                }
                _ => {}
            }
        }
    }
}
