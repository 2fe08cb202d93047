"""What goes on at a node while the region is away: the region's lists of patients with an order here."""
