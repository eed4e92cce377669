"""What keeps a failing or slow tier from harming the others: breaker, admission, back-off."""
