//! What a terminal, a browser and a table show.
