"""ONE PAGE OF HTML: `page` makes it of any sections, `experiment_page` fills it, `inline` takes figures into it."""
