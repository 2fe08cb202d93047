-- When the directory of the newest version was issued, in Unix seconds: nodes order directories by it, so it
-- never goes back, also when this machine's clock did.
INSERT INTO membership_counter VALUES ('directory_version', 0);
INSERT INTO membership_counter VALUES ('directory_issued', 0);
