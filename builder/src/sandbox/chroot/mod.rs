//! The rung without namespaces: the job is another user in a root folder of its own. Not: its network and its processes,
//! which are the machine's; filters and Landlock keep from it what they can.

pub(crate) mod layout;
pub(crate) mod layers;
pub(crate) mod leftovers;
pub(crate) mod tenancy;
