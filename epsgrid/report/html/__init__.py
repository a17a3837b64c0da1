"""One page of HTML: `page` makes it of any sections, `experiment_page` fills it."""
