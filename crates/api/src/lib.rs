//! Requests and responses between the command line, the console and the daemon.
