-- instances: those that the peer has taken word of, packed; empty of what older releases said
ALTER TABLE announce_told ADD COLUMN instances BLOB NOT NULL DEFAULT x'';
