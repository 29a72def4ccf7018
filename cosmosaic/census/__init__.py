"""What the catalogues of a survey hold: counts, depths, colours, odd rows, and the page that shows them."""
