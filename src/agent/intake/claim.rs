//! What the answer to an `accept` means. Pure; the model in tests/model includes this file and decides by it.

/// What this agent's record says of a task before an `accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The record was written a moment ago, and no `accept` was sent before.
    New,
    /// An earlier `accept` may have arrived: its answer was lost, or not written down before a crash.
    Unconfirmed,
    /// The Server has given the task to this agent, and may have requeued it since.
    Confirmed,
}

/// How an `accept` was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The Server has given the task to this agent.
    Given,
    /// The task isn't pending (PROTOCOL 1).
    NotPending,
    /// No usable answer: the call may have arrived, now or later.
    Lost,
    /// The call didn't arrive or was put off, and may succeed later.
    NotNow,
    /// Any other refusal.
    Refused,
}

/// What an agent does after an `accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The task is this agent's: note that, and begin.
    Begin,
    /// Go on with the task as before.
    GoOn,
    /// Ask again later.
    AskAgain,
    /// Forget the task, which isn't this agent's.
    Forget,
}

/// Decides what the answer means for a task with this claim.
///
/// A task that isn't pending although its claim is unconfirmed is taken for this agent's, since otherwise one whose first
/// `accept` had arrived would stay `running` on the Server for ever. It may as well be a twin's, or cancelled.
pub fn decide(claim: Claim, answer: Answer) -> Verdict {
    match (claim, answer) {
        (Claim::Confirmed, Answer::Given | Answer::NotPending | Answer::Refused) => Verdict::GoOn,
        (Claim::New | Claim::Unconfirmed, Answer::Given) => Verdict::Begin,
        (Claim::Unconfirmed, Answer::NotPending) => Verdict::Begin,
        (_, Answer::Lost) | (Claim::Unconfirmed | Claim::Confirmed, Answer::NotNow) => Verdict::AskAgain,
        (Claim::New, Answer::NotPending | Answer::NotNow | Answer::Refused) => Verdict::Forget,
        // The Server answers every id that it doesn't give out in one way (PROTOCOL 8), so this is about the call.
        (Claim::Unconfirmed, Answer::Refused) => Verdict::AskAgain,
    }
}
