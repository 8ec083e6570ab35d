"""The top floor: a file a verb. cli.VERBS lists them; nothing below imports them."""
