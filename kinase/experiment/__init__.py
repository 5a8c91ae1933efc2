"""The loop that joins the three pillars."""
