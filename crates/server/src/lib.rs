//! The program `tidings`: gateway, users, chat, presence, configuration.
