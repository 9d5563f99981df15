//! The whole coordinator below its wire format, on the model in memory, in simulated time: thousands of random schedules of everything
//! that goes wrong between workers, network, coordinator and database. A schedule comes again with its seed.
//!
//! `SORTIE_TEST_SEED` names other schedules, `SORTIE_TEST_CASES` more of them.

mod dice;
mod faulty;
mod journal;
mod schedules;
mod world;
