"""The pages of the workbench: one file a page, found by themselves (see `app.context.Page`)."""
