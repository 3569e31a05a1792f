"""Tables by numbered migrations, triggers and guards made anew from the code after each."""
