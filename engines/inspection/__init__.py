"""Looking inside runs: feature shift, embedding maps, what a prompt says, where it looks, who agrees with whom."""
