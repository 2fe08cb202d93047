-- Of native Pixel Data: bits of a frame, and bytes of a pixel cell; 0: look in the metadata
ALTER TABLE instance ADD COLUMN frame_bits INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instance ADD COLUMN word_bytes INTEGER NOT NULL DEFAULT 1;
