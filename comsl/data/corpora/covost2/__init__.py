"""CoVoST 2 over Common Voice: the rows of its splits, and an audit that refuses to be silent."""
