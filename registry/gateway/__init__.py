"""Who holds a study, and its bytes on from there to who asked; nothing is kept on the way (D11, D21)."""
