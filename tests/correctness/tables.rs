//! Numbers in tables, claims and figures: nothing is averaged that was not named.
